"""Damaged files of every kind: an array or a named fault, in little memory and time.

A damaged TIFF that is decoded must be what tifffile makes of it; PNG and C01 have checksums, so
a damaged one is refused or gives the pixels that were written.
"""

import io
import logging
import struct
import time
import tracemalloc
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phenopipe.ingest.images import ImageFault, decode_image

PIXELS = np.random.default_rng(0).integers(0, 4096, (24, 19), dtype=np.uint16)
COLOURS = np.random.default_rng(1).integers(0, 256, (24, 19, 3), dtype=np.uint8)
# The seeds are below 20 kB, and no decoder here makes more of them than this.
MOST_BYTES = 256 * 2**20
MOST_SECONDS = 2.0

TAGS = (256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 339, 33629)
NUMBERS = (
    *(0, 1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 24, 32, 33, 64, 127, 255, 256, 4096, 32773, 50000),
    *(2**16 - 1, 2**16, 2**20, 2**24, 2**31 - 1, 2**31, 2**32 - 1),
)


def tiff_bytes(pixels=PIXELS, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **{"description": "one field", **options})
    return buffer.getvalue()


def c01_bytes(pixels=PIXELS):
    height, width = pixels.shape
    header = struct.pack("<IiiHH", 40, width, height, 1, 16) + bytes(36)
    return b"\0\0\0\x10" + zlib.compress(header + pixels.astype("<u2").tobytes(), 1)


SEEDS = {
    "plain": tiff_bytes(),
    "big-endian": tiff_bytes(byteorder=">", rowsperstrip=5),
    "BigTIFF": tiff_bytes(bigtiff=True, rowsperstrip=5),
    "LZW": tiff_bytes(compression="lzw", rowsperstrip=7),
    "Deflate": tiff_bytes(compression="zlib", predictor=True, rowsperstrip=7),
    "Zstandard": tiff_bytes(compression="zstd"),
    "PackBits tiles": tiff_bytes(compression="packbits", tile=(16, 16)),
    "floats": tiff_bytes(PIXELS.astype("float32"), compression="zlib", predictor=True),
    "bits": tiff_bytes(PIXELS > 2000),
    "planar": tiff_bytes(COLOURS.transpose(2, 0, 1), planarconfig="separate", photometric="rgb"),
    "pages": tiff_bytes(np.stack([PIXELS] * 4), photometric="minisblack"),
}
WITH_CHECKSUMS = {
    "PNG": (imagecodecs.png_encode(PIXELS), PIXELS),
    "PNG colours": (imagecodecs.png_encode(COLOURS), COLOURS),
    "C01": (c01_bytes(), PIXELS),
}

place = st.integers(0, 20_000)
number = st.one_of(st.sampled_from(NUMBERS), st.integers(0, 2**32 - 1))
flip = st.tuples(st.just("flip"), place, st.integers(0, 7))
cut = st.tuples(st.just("cut"), place, st.just(0))
drop = st.tuples(st.just("drop"), place, st.integers(1, 64))
splice = st.tuples(st.just("splice"), place, place)
# Which tag, and its code, type, count or value.
retag = st.one_of(
    st.tuples(st.just("code"), place, st.sampled_from(TAGS)),
    st.tuples(st.just("type"), place, st.integers(0, 19)),
    st.tuples(st.just("count"), place, number),
    st.tuples(st.just("value"), place, number),
    st.tuples(st.just("nudge"), place, st.sampled_from((-2, -1, 1, 2))),
)
damage = st.lists(st.one_of(retag, retag, retag, flip, drop, splice, cut), min_size=1, max_size=4)
bytewise = st.lists(st.one_of(flip, flip, drop, splice, cut), min_size=1, max_size=4)
steady = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture(autouse=True)
def _quiet_tifffile(caplog):
    caplog.set_level(logging.CRITICAL, logger="tifffile")


@given(st.sampled_from(sorted(SEEDS)), damage)
@settings(max_examples=1500, **steady)
def test_a_damaged_tiff_is_read_as_tifffile_does_or_refused(how, edits):
    check_like_tifffile(apply(edits, SEEDS[how]))


@given(edits=damage, choice=st.integers(0, 10_000))
@settings(max_examples=500, **steady)
def test_a_damaged_odd_tiff_is_read_as_tifffile_does_or_refused(shared, edits, choice):
    paths = sorted(p for p in shared("plates/odd_tiffs").rglob("*.tif*") if p.is_file())
    seeds = [path for path in paths if 0 < path.stat().st_size < 20_000]
    check_like_tifffile(apply(edits, seeds[choice % len(seeds)].read_bytes()))


@given(st.sampled_from(sorted(WITH_CHECKSUMS)), bytewise)
@settings(max_examples=600, **steady)
def test_a_damaged_file_with_checksums_gives_its_pixels_or_is_refused(how, edits):
    data, pixels = WITH_CHECKSUMS[how]
    image = decode_guarded(apply(edits, data))
    if image is not None:
        np.testing.assert_array_equal(image, pixels)


def check_like_tifffile(data):
    image = decode_guarded(data)
    expected = None if image is None else read_by_tifffile(data)
    if expected is not None:
        assert image.dtype == expected.dtype
        assert image.shape == expected.shape
        assert image.tobytes() == expected.tobytes()


def decode_guarded(data):
    """Decode within bounds of memory and time; None where the file is refused."""
    tracemalloc.start()
    start = time.process_time()
    try:
        image = decode_image(data, "damaged.tif")
    except ImageFault:
        image = None
    assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    assert time.process_time() - start < MOST_SECONDS
    tracemalloc.stop()
    return image


def read_by_tifffile(data):
    """None where tifffile does not read it: it refuses a last strip that is filled up."""
    try:
        with tifffile.TiffFile(io.BytesIO(data), is_ome=False) as tiff:
            pages = [page.asarray(maxworkers=1) for page in tiff.pages]
        return pages[0] if len(pages) == 1 else np.stack(pages)
    except Exception:  # noqa: BLE001 (whatever it raises)
        return None


def apply(edits, seed):
    data = bytearray(seed)
    for what, where, value in edits:
        if not data:
            break
        at = where % len(data)
        if what == "flip":
            data[at] ^= 1 << value
        elif what == "cut":
            del data[at:]
        elif what == "drop":
            del data[at : at + value]
        elif what == "splice":
            source = value % len(data)
            data[at : at + 16] = data[source : source + 16]
        else:
            edit_tag(data, what, where, value)
    return bytes(data)


def edit_tag(data, what, where, value):
    """Edit a tag of the first directory, where there is one still."""
    order = "<" if data[:2] == b"II" else ">"
    big = bytes(data[2:4]) in {b"\x2b\0", b"\0\x2b"}
    start, wide = (8, "Q") if big else (4, "I")
    try:
        (at,) = struct.unpack_from(order + wide, data, start)
        (n_tags,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
        entry = at + (8 if big else 2) + where % min(n_tags, 64) * (20 if big else 12)
        offset, form = {
            "code": (0, "H"),
            "type": (2, "H"),
            "count": (4, wide),
        }.get(what, (12 if big else 8, wide))
        if what == "nudge":
            value += struct.unpack_from(order + form, data, entry + offset)[0]
        struct.pack_into(order + form, data, entry + offset, value)
    except (struct.error, OverflowError, ZeroDivisionError):
        return
