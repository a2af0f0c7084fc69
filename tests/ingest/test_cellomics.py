import struct
import zlib

import numpy as np
import pytest
import tifffile

from phenopipe.ingest.images import ImageFault, decode_image, read_image

PIXELS = np.random.default_rng(0).integers(0, 4096, (24, 19), dtype=np.uint16)


def c01_bytes(pixels=PIXELS, *, shape=None, bits=16, extra=b""):
    height, width = shape or pixels.shape
    header = struct.pack("<IiiHH", 40, width, height, 1, bits) + bytes(36)
    return b"\0\0\0\x10" + zlib.compress(header + pixels.astype("<u2").tobytes() + extra, 1)


def test_reads_the_pixels_that_the_microscopes_tiffs_hold(shared):
    paths = sorted(shared("plates/arrayscan/test-data").rglob("*.C01"))
    exported = {path.stem: path for path in shared("plates/arrayscan").rglob("*.tif")}
    pairs = [(path, exported[path.stem]) for path in paths if path.stem in exported]
    assert (len(paths), len(pairs)) == (12, 9)  # the other three are masks
    for path, tiff in pairs:
        image = read_image(path)
        np.testing.assert_array_equal(image, tifffile.imread(tiff))
        assert image.dtype == np.dtype("uint16")


def test_reads_what_was_written():
    np.testing.assert_array_equal(decode_image(c01_bytes(), "a.C01"), PIXELS)
    np.testing.assert_array_equal(decode_image(c01_bytes(), "a.C01", pages=[0]), PIXELS[None])


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (c01_bytes()[:-1], "corrupt"),
        (c01_bytes()[:20], "truncated"),
        (c01_bytes() + b"\0", "corrupt"),
        (c01_bytes(extra=b"\0\0"), "corrupt"),
        (c01_bytes(shape=(25, 19)), "truncated"),
        (c01_bytes(shape=(23, 19)), "corrupt"),
        (c01_bytes(shape=(24, -19)), "corrupt"),
        (c01_bytes(shape=(200_000, 200_000)), "too_large"),
        (c01_bytes(shape=(20_000, 20_000)), "truncated"),
        (c01_bytes(bits=8), "unsupported"),
    ],
)
def test_names_what_is_wrong(data, kind):
    with pytest.raises(ImageFault) as caught:
        decode_image(data, "a.C01")
    assert caught.value.kind == kind
