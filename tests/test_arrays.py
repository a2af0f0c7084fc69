import hashlib

import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

from phenopipe.arrays import read_array, write_array
from phenopipe.errors import InputError


def metadata_of(pixels):
    """Have zarr-python describe one shard of chunks of 32 x 32."""
    store = MemoryStore()
    zarr.create_array(
        store, shape=pixels.shape, dtype=pixels.dtype, chunks=(1, 32, 32), shards=pixels.shape
    )
    return store._store_dict["zarr.json"].to_bytes()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).poisson(300, (6, 128, 128)).astype("uint16")


def test_pixels_come_back_and_zarr_python_reads_them(tmp_path, pixels):
    write_array(tmp_path / "a", pixels, metadata=metadata_of(pixels))
    np.testing.assert_array_equal(read_array(tmp_path / "a"), pixels)
    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}):
        np.testing.assert_array_equal(zarr.open_array(tmp_path / "a", mode="r")[:], pixels)


@pytest.mark.parametrize("planes", [None, [4, 1]])
def test_a_shard_that_was_cut_short_is_told_of_in_one_sentence(tmp_path, pixels, planes):
    write_array(tmp_path / "a", pixels, metadata=metadata_of(pixels))
    shard = tmp_path / "a/c/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(InputError, match="found damaged bytes"):
        read_array(tmp_path / "a", planes=planes)


def test_the_same_pixels_give_the_same_bytes(tmp_path, pixels):
    digests = set()
    for number in range(10):
        write_array(tmp_path / str(number), pixels, metadata=metadata_of(pixels))
        shard = tmp_path / str(number) / "c" / "0" / "0" / "0"
        digests.add(hashlib.sha256(shard.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_a_black_image_comes_back_black(tmp_path, pixels):
    black = np.zeros_like(pixels)
    write_array(tmp_path / "a", black, metadata=metadata_of(black))
    np.testing.assert_array_equal(read_array(tmp_path / "a"), black)


@pytest.mark.parametrize("planes", [[0], [4, 1], [5, 0, 2, 1], [0, 1, 2], range(6)])
def test_planes_are_those_of_the_whole_in_the_order_asked_for(tmp_path, pixels, planes):
    write_array(tmp_path / "a", pixels, metadata=metadata_of(pixels))
    found = read_array(tmp_path / "a", planes=planes)
    np.testing.assert_array_equal(found, pixels[list(planes)])


def test_planes_that_are_not_asked_for_are_not_decoded(tmp_path, pixels):
    write_array(tmp_path / "a", pixels, metadata=metadata_of(pixels))
    shard = tmp_path / "a" / "c" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    # The first chunk is the first plane's.
    content[:64] = bytes(64)
    shard.write_bytes(content)
    np.testing.assert_array_equal(read_array(tmp_path / "a", planes=[3, 5]), pixels[[3, 5]])
