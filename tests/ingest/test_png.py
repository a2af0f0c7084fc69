import struct

import imagecodecs
import numpy as np
import pytest

from phenopipe.ingest.images import ImageFault, decode_image

PIXELS = np.random.default_rng(0).integers(0, 4096, (24, 19), dtype=np.uint16)
DATA = imagecodecs.png_encode(PIXELS)


def png_bytes(*, width=19, height=24, bits=16, colours=0):
    return DATA[:16] + struct.pack(">IIBB", width, height, bits, colours) + DATA[26:]


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_reads_what_was_written(samples, dtype):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 19, samples)).astype(dtype)
    pixels = pixels[..., 0] if samples == 1 else pixels
    np.testing.assert_array_equal(decode_image(imagecodecs.png_encode(pixels), "a.png"), pixels)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (DATA[:-1], "truncated"),
        (DATA[:20], "truncated"),
        (png_bytes(width=18), "corrupt"),  # its checksum is not the header's any more
        (png_bytes(colours=3, bits=8), "unsupported"),
        (png_bytes(bits=1), "unsupported"),
        (png_bytes(width=2**31 - 1, height=2**31 - 1), "too_large"),
        (png_bytes(width=20_000, height=20_000), "truncated"),
    ],
)
def test_names_what_is_wrong(data, kind):
    with pytest.raises(ImageFault) as caught:
        decode_image(data, "a.png")
    assert caught.value.kind == kind
