import io
import logging
import struct
import time
import zlib

import numpy as np
import pytest
import tifffile

from phenopipe.ingest.images import ImageFault, decode_image

PIXELS = np.random.default_rng(0).integers(0, 4096, (24, 19), dtype=np.uint16)


@pytest.fixture(autouse=True)
def _quiet_tifffile(caplog):
    caplog.set_level(logging.CRITICAL, logger="tifffile")


def tiff_bytes(pixels=PIXELS, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **{"description": "one field", **options})
    return buffer.getvalue()


def stack_bytes(*pages, **options):
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for page in pages:
            writer.write(page, metadata=None, contiguous=False, **options)
    return buffer.getvalue()


def with_tag(data, code, *, value=None, kind=None, count=None, new_code=None):
    """Change a tag of the first page of a classic little-endian TIFF."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        at = tiff.pages.first.tags[code].offset
    changed = bytearray(data)
    for offset, form, number in (
        (8, "<I", value),
        (2, "<H", kind),
        (4, "<I", count),
        (0, "<H", new_code),
    ):
        if number is not None:
            struct.pack_into(form, changed, at + offset, number)
    return bytes(changed)


def fault_of(data, **options):
    with pytest.raises(ImageFault) as caught:
        decode_image(data, "field.tif", **options)
    return caught.value


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


def test_refuses_a_header_that_declares_more_than_memory():
    zstandard = tiff_bytes(compression="zstd")
    with tifffile.TiffFile(io.BytesIO(zstandard)) as tiff:
        tags = tiff.pages.first.tags
        places = [tags[name].offset for name in ("ImageWidth", "ImageLength")]
    data = bytearray(zstandard)
    for place in places:
        data[place + 2 : place + 12] = struct.pack("<HII", 4, 1, 1_500_000)
    fault = fault_of(bytes(data))
    assert fault.kind == "too_large"
    assert "1500000" in fault.text


def test_refuses_an_empty_strip_rather_than_fill_it_with_zeros():
    data = bytearray(tiff_bytes(compression="zlib", predictor=True, rowsperstrip=7))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tiff:
        counts = tiff.pages.first.tags["StripByteCounts"]
    size = counts.valuebytecount // counts.count
    data[counts.valueoffset : counts.valueoffset + size] = bytes(size)
    assert np.all(tifffile.imread(io.BytesIO(bytes(data)))[:7] == 0)
    assert fault_of(bytes(data)).kind == "truncated"


def test_refuses_pages_that_run_in_a_circle():
    data = bytearray(tiff_bytes())
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tiff:
        start, n_tags = tiff.pages.first.offset, len(tiff.pages.first.tags)
    struct.pack_into("<I", data, start + 2 + 12 * n_tags, start)
    assert fault_of(bytes(data)).kind == "corrupt"


# --- pages -----------------------------------------------------------------------------------


def test_decodes_only_the_pages_that_are_asked_for():
    pages = [PIXELS + n for n in range(5)]
    data = stack_bytes(*pages, compression="zlib")
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        start = tiff.pages[1].dataoffsets[0]
    torn = data[:start] + bytes(8) + data[start + 8 :]
    assert fault_of(torn).kind == "corrupt"
    chosen = decode_image(torn, "stack.tif", pages=[3, 0])
    np.testing.assert_array_equal(chosen, np.stack([pages[3], pages[0]]))
    assert fault_of(torn, pages=[1]).kind == "corrupt"


def test_checks_the_directories_of_the_other_pages_too():
    data = stack_bytes(PIXELS, PIXELS)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        second = tiff.pages[1].offset
    assert fault_of(data[: second + 4], pages=[0]).kind == "truncated"


def test_chooses_pages_among_those_of_another_size():
    data = stack_bytes(PIXELS, PIXELS[:5])
    assert decode_image(data, "a.tif", pages=[1]).shape == (1, 5, 19)
    assert fault_of(data, pages=[0, 1]).kind == "unsupported"


@pytest.mark.parametrize("pages", [[1], [-1], [0, 7], []])
def test_a_page_that_is_not_there_is_missing(pages):
    assert fault_of(tiff_bytes(), pages=pages).kind == "missing"


def test_colours_are_no_planes():
    colours = np.zeros((24, 19, 3), "uint8")
    assert fault_of(tiff_bytes(colours, photometric="rgb"), pages=[0]).kind == "unsupported"


# --- pixels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [5, 24])
def test_pixels_that_lie_in_one_piece_are_not_copied(rows):
    data = tiff_bytes(rowsperstrip=rows)
    image = decode_image(data, "field.tif")
    assert np.shares_memory(image, np.frombuffer(data, "uint8"))
    np.testing.assert_array_equal(image, PIXELS)


def test_reads_strips_in_any_order_with_a_last_one_filled_up():
    # Four strips of seven rows for 24 rows; written by hand, as some writers do.
    rows = np.vstack([PIXELS, np.zeros((4, 19), "uint16")]).reshape(4, 7 * 19)
    strips = [zlib.compress(strip.tobytes()) for strip in rows]
    template = tiff_bytes(compression="zlib", rowsperstrip=7)
    with tifffile.TiffFile(io.BytesIO(template)) as tiff:
        tags = tiff.pages.first.tags
        offsets, counts = tags["StripOffsets"], tags["StripByteCounts"]
    data = bytearray(template)
    for n in (2, 0, 3, 1):
        struct.pack_into("<I", data, offsets.valueoffset + 4 * n, len(data))
        struct.pack_into("<H", data, counts.valueoffset + 2 * n, len(strips[n]))
        data += strips[n]
    np.testing.assert_array_equal(decode_image(bytes(data), "field.tif"), PIXELS)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "zstd"])
@pytest.mark.parametrize("rows", [8, 24])
def test_refuses_rows_that_the_header_does_not_declare(compression, rows):
    data = tiff_bytes(compression=compression, rowsperstrip=rows)
    assert fault_of(with_tag(data, 257, value=rows // 2)).kind == "corrupt"


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "zstd"])
def test_refuses_rows_that_are_not_there(compression):
    data = tiff_bytes(compression=compression, rowsperstrip=24)
    more = with_tag(with_tag(data, 257, value=25), 278, value=25)
    assert fault_of(more).kind == "truncated"


def test_refuses_what_libraries_read_differently():
    plain = tiff_bytes(rowsperstrip=24)
    tiled = tiff_bytes(compression="zlib", predictor=True, rowsperstrip=24)
    assert fault_of(with_tag(tiled, 259, value=1)).kind == "unsupported"  # a predictor alone
    assert fault_of(with_tag(plain, 277, new_code=284, value=3)).kind == "unsupported"
    assert fault_of(with_tag(plain, 273, value=4)).kind == "truncated"  # pixels in the header


def test_refuses_a_damaged_tag_rather_than_take_its_default():
    # tifffile drops a tag of unknown type and reads one bit a pixel, or the tag's default.
    data = tiff_bytes(rowsperstrip=24)
    for code in (256, 257, 258, 259, 273, 278, 279):
        assert fault_of(with_tag(data, code, kind=99)).kind == "corrupt"
        assert fault_of(with_tag(data, code, count=0)).kind == "corrupt"
        assert fault_of(with_tag(data, code, new_code=277)).kind in {"corrupt", "truncated"}


@pytest.mark.parametrize("compression", ["jpeg", "ccittfax4", "webp"])
def test_refuses_codecs_of_pictures(compression):
    codes = {"jpeg": 7, "ccittfax4": 4, "webp": 50001}
    data = with_tag(tiff_bytes(rowsperstrip=24), 259, value=codes[compression])
    assert fault_of(data).kind == "unsupported"


# --- bounds ----------------------------------------------------------------------------------


def test_refuses_more_pixels_than_the_compressed_bytes_can_hold():
    data = tiff_bytes(compression="zlib", rowsperstrip=24)
    huge = with_tag(with_tag(data, 256, value=20_000), 257, value=20_000)
    fault = fault_of(with_tag(huge, 278, value=20_000))
    assert fault.kind == "truncated"
    assert "800000000" in fault.text


def test_refuses_more_strips_than_can_be_read_in_seconds():
    data = tiff_bytes(rowsperstrip=5)
    many = with_tag(data, 273, kind=4, count=140_000, value=len(data)) + bytes(560_000)
    assert fault_of(many).kind == "corrupt"
    slices = tiff_bytes(np.zeros((70_000, 1), "uint8"), compression="packbits", rowsperstrip=1)
    assert fault_of(slices, pages=[0, 0]).kind == "too_large"


def test_refuses_more_pages_and_tags_than_can_be_read_in_seconds():
    tag = (65000, 3, 1, 0, True)
    assert fault_of(tiff_bytes(extratags=[tag] * 600)).kind == "corrupt"
    # A chain of 10,001 empty directories, six bytes each.
    chain = b"".join(struct.pack("<HI", 0, 14 + 6 * n) for n in range(10_001))
    assert fault_of(b"II*\0" + struct.pack("<I", 8) + chain).kind == "corrupt"


def test_refuses_pages_that_share_one_strip_beyond_the_size_of_the_file():
    # A clear code (256, nine bits) gives no pixel: an LZW strip of them costs time for nothing.
    clear = bytes.fromhex("804020100804020100") * 100_000
    pages = stack_bytes(*[np.zeros((4, 4), "uint8")] * 500, compression="lzw")
    data = bytearray(pages + clear)
    with tifffile.TiffFile(io.BytesIO(pages)) as tiff:
        tags = [page.tags for page in tiff.pages]
    for page in tags:
        struct.pack_into("<I", data, page["StripOffsets"].valueoffset, len(pages))
        struct.pack_into("<HI", data, page["StripByteCounts"].offset + 2, 4, 1)
        struct.pack_into("<I", data, page["StripByteCounts"].offset + 8, len(clear))
    start = time.process_time()
    assert fault_of(bytes(data)).kind in {"corrupt", "truncated"}
    assert time.process_time() - start < 2
