import json
import shutil
import zlib
from contextlib import suppress
from itertools import product

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec

from phenopipe.ingest.image_fault import ImageFault
from phenopipe.ingest.source import digest_path
from phenopipe.ingest.zarr_image import (
    decode_zarr_array,
    digest_zarr_files,
    read_zarr_array,
    read_zarr_files,
)

SHAPE = (2, 5, 7)


def pixels(dtype="uint16", shape=SHAPE):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def write_v2(path, *, image=None, chunks=(1, 3, 4), compressor=None, **options):
    image = pixels() if image is None else image
    array = zarr.create_array(
        path,
        shape=image.shape,
        dtype=image.dtype,
        chunks=chunks,
        zarr_format=2,
        compressors=compressor,
        fill_value=options.pop("fill_value", 0),
        **options,
    )
    array[:] = image
    return image


def write_v3(path, *, image=None, chunks=(1, 3, 4), **options):
    image = pixels() if image is None else image
    fill = options.pop("fill_value", 0)
    array = zarr.create_array(
        path, shape=image.shape, dtype=image.dtype, chunks=chunks, fill_value=fill, **options
    )
    array[:] = image
    return image


def find_fault(path):
    with pytest.raises(ImageFault) as caught:
        read_zarr_array(path)
    assert caught.value.path == str(path)
    return caught.value.kind


# --- what zarr wrote is read as zarr reads it ---------------------------------------------------

COMPRESSORS_V2 = [
    None,
    numcodecs.Blosc(cname="zstd", shuffle=2),
    numcodecs.Blosc(cname="lz4"),
    numcodecs.Zstd(),
    numcodecs.Zlib(),
    numcodecs.GZip(),
    numcodecs.LZ4(),
]


@pytest.mark.parametrize("compressor", COMPRESSORS_V2, ids=lambda c: c and c.codec_id)
@pytest.mark.parametrize(
    ("order", "dtype", "separator"), [("C", "<u2", "/"), ("F", ">u2", "."), ("F", "|u1", "/")]
)
def test_version_2_in_every_coding(tmp_path, compressor, order, dtype, separator):
    keys = {"name": "v2", "separator": separator}
    image = write_v2(
        tmp_path / "0",
        image=pixels(dtype),
        compressor=compressor,
        order=order,
        chunk_key_encoding=keys,
    )
    found = read_zarr_array(tmp_path / "0")
    np.testing.assert_array_equal(found, image)
    assert found.dtype == np.dtype(dtype).newbyteorder("=")


CODINGS_V3 = {
    "plain": {"compressors": None},
    "zstd": {"compressors": ZstdCodec(level=3)},
    "zstd and checksums": {"compressors": [ZstdCodec(checksum=True), Crc32cCodec()]},
    "gzip": {"compressors": GzipCodec()},
    "blosc": {"compressors": BloscCodec(cname="zstd", shuffle="bitshuffle", typesize=2)},
    "big-endian": {"serializer": zarr.codecs.BytesCodec(endian="big")},
    "transposed": {"filters": [TransposeCodec(order=(2, 0, 1))]},
    "keys as in version 2": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
    "keys with dots": {"chunk_key_encoding": {"name": "default", "separator": "."}},
    "sharded": {"shards": (2, 6, 8)},
    "sharded, several": {"shards": (1, 3, 8), "compressors": BloscCodec(typesize=2)},
    "sharded, table first": {
        "chunks": (2, 6, 8),
        "serializer": ShardingCodec(chunk_shape=(1, 3, 4), index_location="start"),
        "compressors": None,
    },
    "sharded and checksum": {
        "chunks": (2, 6, 8),
        "serializer": ShardingCodec(chunk_shape=(1, 3, 2), codecs=[zarr.codecs.BytesCodec()]),
        "compressors": [Crc32cCodec()],
    },
}


@pytest.mark.filterwarnings("ignore:Combining a `sharding_indexed` codec")
@pytest.mark.parametrize("coding", CODINGS_V3.values(), ids=CODINGS_V3)
def test_version_3_in_every_coding(tmp_path, coding):
    image = write_v3(tmp_path / "0", **coding)
    np.testing.assert_array_equal(read_zarr_array(tmp_path / "0"), image)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64", "float32", "float64"])
@pytest.mark.parametrize("write", [write_v2, write_v3])
def test_numbers_keep_their_dtype(tmp_path, dtype, write):
    image = write(tmp_path / "0", image=pixels(dtype))
    found = read_zarr_array(tmp_path / "0")
    assert found.dtype == image.dtype
    np.testing.assert_array_equal(found, image)


@given(
    shape=st.lists(st.integers(1, 7), min_size=2, max_size=3),
    chunk=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    inner=st.lists(st.integers(1, 3), min_size=3, max_size=3),
)
@settings(max_examples=15, deadline=None)
def test_any_shape_in_any_chunks(tmp_path_factory, shape, chunk, inner):
    path = tmp_path_factory.mktemp("a")
    chunk, inner = chunk[: len(shape)], inner[: len(shape)]
    shards = [c * i for c, i in zip(chunk, inner, strict=True)]
    for name, options in (("plain", {}), ("sharded", {"shards": shards})):
        image = write_v3(path / name, image=pixels("uint8", shape), chunks=chunk, **options)
        np.testing.assert_array_equal(read_zarr_array(path / name), image)


@pytest.mark.parametrize(
    "write", [write_v2, write_v3, lambda path, **o: write_v3(path, shards=(2, 6, 8), **o)]
)
def test_a_chunk_that_is_not_there_has_the_fill_value(tmp_path, write):
    image = pixels()
    image[0, :3, :4] = 7
    write(tmp_path / "0", image=image, fill_value=7, config={"write_empty_chunks": False})
    found = read_zarr_array(tmp_path / "0")
    np.testing.assert_array_equal(found, zarr.open_array(tmp_path / "0", mode="r")[:])
    np.testing.assert_array_equal(found, image)


def test_arrays_of_a_real_plate(shared):
    plate = shared("plates/ngff/single-plane-hcs.zarr")
    for well, level in product(("E/07", "E/08"), "012"):
        path = plate / well / "0" / level
        np.testing.assert_array_equal(
            read_zarr_array(path), zarr.open_array(path, mode="r")[:], strict=True
        )


def test_the_digest_of_what_is_read_is_that_of_the_folder(tmp_path):
    write_v3(tmp_path / "0")
    files = read_zarr_files(tmp_path / "0")
    assert digest_zarr_files(files) == digest_path(tmp_path / "0").digest
    files["c/0/0/0"] += b"!"
    assert digest_zarr_files(files) != digest_path(tmp_path / "0").digest


# --- what is damaged is named -------------------------------------------------------------------


def edit(path, **changes):
    """Change the metadata of an array."""
    file = next(path / name for name in (".zarray", "zarr.json") if (path / name).exists())
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_no_folder_and_no_array(tmp_path):
    assert find_fault(tmp_path / "none") == "missing"
    assert find_fault(tmp_path) == "not_an_image"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"shape": [10**6, 10**6, 4]}, "too_large"),
        ({"chunks": [10**6, 10**6, 1]}, "too_large"),
        ({"shape": [2000, 2000, 100], "chunks": [1, 1, 1]}, "too_large"),
        ({"shape": [2, 0, 7]}, "corrupt"),
        ({"shape": [-2, 5, 7]}, "corrupt"),
        ({"shape": [5, 7]}, "corrupt"),
        ({"shape": "many"}, "corrupt"),
        ({"chunks": [0, 3, 4]}, "corrupt"),
        ({"fill_value": "blue"}, "corrupt"),
        ({"dtype": "|O"}, "corrupt"),
        ({"dtype": [["a", "<u2"]]}, "corrupt"),
        ({"dtype": "<c16"}, "corrupt"),
        ({"compressor": {"id": "bz2"}}, "corrupt"),
        ({"zarr_format": 4}, "corrupt"),
        ({"compressor": {"id": "zstd"}}, "corrupt"),
        ({"compressor": None}, "corrupt"),
    ],
)
def test_metadata_that_cannot_be_are_refused(tmp_path, changes, kind):
    write_v2(tmp_path / "0", compressor=numcodecs.Blosc())
    edit(tmp_path / "0", **changes)
    assert find_fault(tmp_path / "0") == kind


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 10**5, '{"zarr_format": 3}', "\x00\xff"])
def test_metadata_that_are_no_metadata(tmp_path, text):
    write_v3(tmp_path / "0")
    (tmp_path / "0/zarr.json").write_text(text)
    assert find_fault(tmp_path / "0") == "corrupt"


@pytest.mark.parametrize("compressor", COMPRESSORS_V2, ids=lambda c: c and c.codec_id)
def test_a_chunk_that_was_cut_is_corrupt(tmp_path, compressor):
    write_v2(tmp_path / "0", compressor=compressor)
    chunk = tmp_path / "0/1.0.1"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    assert find_fault(tmp_path / "0") == "corrupt"


@pytest.mark.parametrize("coding", ["sharded", "zstd and checksums"])
def test_a_shard_that_was_cut_or_changed_is_corrupt(tmp_path, coding):
    write_v3(tmp_path / "0", **CODINGS_V3[coding])
    chunk = tmp_path / "0/c/0/0/0"
    whole = chunk.read_bytes()
    for damaged in (whole[:-1], whole[:3], b"", whole[:-9] + b"\xff\xff\xff\xff\xff" + whole[-4:]):
        chunk.write_bytes(damaged)
        assert find_fault(tmp_path / "0") == "corrupt"


def test_a_chunk_that_unpacks_without_end_is_refused_in_little_memory(tmp_path):
    write_v2(tmp_path / "0", compressor=numcodecs.Zlib())
    (tmp_path / "0/1.0.1").write_bytes(zlib.compress(bytes(64 * 2**20)))
    assert find_fault(tmp_path / "0") == "corrupt"


@pytest.mark.parametrize(
    "options",
    [{}, {"shards": (2, 6, 8)}, {"compressors": BloscCodec(typesize=2)}],
    ids=["zstd", "sharded", "blosc"],
)
def test_damaged_bytes_give_an_array_or_a_named_fault(tmp_path_factory, options):
    path = tmp_path_factory.mktemp("a") / "0"
    write_v3(path, **options)
    files = read_zarr_files(path)
    shutil.rmtree(path)

    @given(st.data())
    @settings(max_examples=150, deadline=None)
    def damage(data):
        name = data.draw(st.sampled_from(sorted(files)))
        content = bytearray(files[name])
        for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
            content[at] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(content)))
        damaged = files | {name: bytes(content[: cut if data.draw(st.booleans()) else None])}
        with suppress(ImageFault):
            assert decode_zarr_array(damaged, path).ndim >= 2

    damage()
