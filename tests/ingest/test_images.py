import io
import logging
import pickle
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from phenopipe.ingest.images import (
    MAX_BYTES,
    ImageFault,
    decode_image,
    read_image,
    read_metaseries,
)

ODD_TIFFS = 93
PIXELS = np.random.default_rng(0).integers(0, 4096, (24, 19), dtype=np.uint16)


@pytest.fixture(autouse=True)
def _quiet_tifffile(caplog):
    caplog.set_level(logging.CRITICAL, logger="tifffile")


def tiff_bytes(pixels=PIXELS, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, description="one field", **options)
    return buffer.getvalue()


WRITTEN = {
    "plain": tiff_bytes(),
    "big-endian": tiff_bytes(byteorder=">"),
    "BigTIFF": tiff_bytes(bigtiff=True),
    "LZW": tiff_bytes(compression="lzw", rowsperstrip=7),
    "Deflate": tiff_bytes(compression="zlib", predictor=True, rowsperstrip=7),
    "Zstandard": tiff_bytes(compression="zstd"),
    "PackBits tiles": tiff_bytes(compression="packbits", tile=(16, 16)),
    "PNG": imagecodecs.png_encode(PIXELS),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_gives_back_the_pixels_that_were_written(how, tmp_path):
    path = tmp_path / "field.tif"
    path.write_bytes(WRITTEN[how])
    image = read_image(path)
    np.testing.assert_array_equal(image, PIXELS)
    assert image.dtype == np.dtype("uint16")
    assert image.dtype.isnative


def test_stacks_the_pages_of_a_file():
    pages = np.stack([PIXELS, PIXELS + 1])
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pages, photometric="minisblack", metadata=None)
    np.testing.assert_array_equal(decode_image(buffer.getvalue(), "two.tif"), pages)


def test_refuses_pages_of_different_sizes():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(PIXELS, metadata=None)
        writer.write(PIXELS[:5], metadata=None)
    assert fault_of(buffer.getvalue()).kind == "unsupported"


def test_refuses_an_imagej_stack_behind_one_page():
    # Above 4 GB ImageJ writes one page and the further planes behind it: reading the page
    # alone would lose them unseen.
    data = tiff_bytes().replace(b"one field", b"ImageJ=1\n")
    assert decode_image(data, "one.tif").shape == PIXELS.shape
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, PIXELS, description="ImageJ=1.53\nimages=9\n", metadata=None)
    assert fault_of(buffer.getvalue()).kind == "unsupported"


@pytest.mark.parametrize("how", WRITTEN)
def test_names_a_fault_wherever_a_file_is_cut_off(how):
    data = WRITTEN[how]
    read = [cut for cut in range(len(data)) if not is_fault(data[:cut])]
    assert read == []


@given(
    how=st.sampled_from(sorted(WRITTEN)),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
)
@settings(max_examples=400, deadline=None)
def test_gives_an_image_or_a_fault_for_damaged_bytes(how, flips):
    data = bytearray(WRITTEN[how])
    for place, value in flips:
        data[place % len(data)] = value
    if not is_fault(bytes(data)):
        image = decode_image(bytes(data), "damaged.tif")
        assert 0 < image.nbytes <= MAX_BYTES


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_gives_a_fault_for_bytes_that_are_no_image(data):
    assert is_fault(data)
    assert is_fault(b"II*\x00" + data)
    assert is_fault(b"\x89PNG\r\n\x1a\n" + data)


def test_refuses_a_header_that_declares_more_than_memory():
    with tifffile.TiffFile(io.BytesIO(WRITTEN["Zstandard"])) as tiff:
        tags = tiff.pages.first.tags
        places = [tags[name].offset for name in ("ImageWidth", "ImageLength")]
    data = bytearray(WRITTEN["Zstandard"])
    for place in places:
        data[place + 2 : place + 12] = struct.pack("<HII", 4, 1, 1_500_000)
    fault = fault_of(bytes(data))
    assert fault.kind == "too_large"
    assert "1500000" in fault.text


def test_refuses_an_empty_strip_rather_than_fill_it_with_zeros():
    data = bytearray(WRITTEN["Deflate"])
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tiff:
        counts = tiff.pages.first.tags["StripByteCounts"]
    size = counts.valuebytecount // counts.count
    data[counts.valueoffset : counts.valueoffset + size] = bytes(size)
    assert np.all(tifffile.imread(io.BytesIO(bytes(data)))[:7] == 0)
    assert fault_of(bytes(data)).kind == "truncated"


def test_refuses_pages_that_run_in_a_circle():
    data = bytearray(WRITTEN["plain"])
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tiff:
        start, n_tags = tiff.pages.first.offset, len(tiff.pages.first.tags)
    struct.pack_into("<I", data, start + 2 + 12 * n_tags, start)
    assert fault_of(bytes(data)).kind == "corrupt"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty_file"),
        (bytes(512), "not_an_image"),
        (b"<html>not found</html>", "not_an_image"),
        (b"\xff\xd8\xff\xe0 a JPEG", "unsupported"),
        (b"II*\x00", "truncated"),
        (tiff_bytes(PIXELS.astype("uint8"), compression="jpeg"), "unsupported"),
    ],
)
def test_names_what_is_wrong(data, kind):
    assert fault_of(data).kind == kind


def test_names_what_is_wrong_with_the_path(tmp_path):
    (tmp_path / "folder.tif").mkdir()
    found = {}
    for name in ("nowhere.tif", "folder.tif", "\0.tif"):
        with pytest.raises(ImageFault) as caught:
            read_image(tmp_path / name)
        found[name] = caught.value.kind
    assert found == {
        "nowhere.tif": "missing",
        "folder.tif": "not_an_image",
        "\0.tif": "unreadable",
    }


def test_a_fault_travels_between_processes():
    fault = ImageFault("truncated", "B03_w1.tif", "expected 512 bytes, found 100")
    copy = pickle.loads(pickle.dumps(fault))  # noqa: S301 (our own bytes)
    assert (copy.kind, copy.path, copy.text) == (fault.kind, fault.path, fault.text)
    assert str(copy) == str(fault)


def test_reads_the_pixel_size_of_the_resolution_tag(tmp_path):
    path = tmp_path / "field.tif"
    path.write_bytes(tiff_bytes(resolution=(1e4 / 0.65, 1e4 / 0.65), resolutionunit="CENTIMETER"))
    assert read_metaseries(path) == ({}, pytest.approx(0.65))
    path.write_bytes(tiff_bytes(resolution=(72, 72), resolutionunit="INCH"))
    assert read_metaseries(path) == ({}, None)


def test_reads_odd_tiffs_as_tifffile_does_or_names_the_fault(shared):
    """61 of the 93 are decoded; a faulty one is never read as something else than by tifffile."""
    paths = [path for path in sorted(shared("plates/odd_tiffs").rglob("*")) if path.is_file()]
    paths = [path for path in paths if path.name != "LICENSE.upstream"]
    assert len(paths) == ODD_TIFFS
    kinds = {}
    for path in paths:
        try:
            image = read_image(path)
        except ImageFault as fault:
            kinds[path.name] = fault.kind
            continue
        with tifffile.TiffFile(path, is_ome=False) as tiff:
            pages = [page.asarray() for page in tiff.pages]
        np.testing.assert_array_equal(image, pages[0] if len(pages) == 1 else np.stack(pages))
    assert len(paths) - len(kinds) == 61
    assert sum(kind == "empty_file" for kind in kinds.values()) == 9
    assert kinds["sample-get-lzw-stuck.tiff"] == "truncated"
    assert kinds["test_ifd_loop_to_first.tif"] == "corrupt"
    assert kinds["tiff_strip_ycbcr_jpeg_2x2_sampling.tif"] == "unsupported"
    assert kinds["multifile.companion.ome"] == "not_an_image"


def fault_of(data):
    with pytest.raises(ImageFault) as caught:
        decode_image(data, "field.tif")
    return caught.value


def is_fault(data):
    try:
        decode_image(data, "field.tif")
    except ImageFault:
        return True
    return False
