"""The settings of crops, from a published plate to its table."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from phenopipe.config import EmbedConfig
from phenopipe.embed import crop_origins, embed_plate
from phenopipe.errors import InputError
from phenopipe.lake import embeddings
from phenopipe.plates import PlateKey
from phenopipe.pyramid import halve
from phenopipe.schema import check_embeddings
from tests.embed.graphs import add_model

KEY = PlateKey("HUVEC-1", "Plate3")


def embed(plate, client, **config):
    settings = EmbedConfig(**{"crop": 16} | config)
    embed_plate(plate.lake, KEY, model="sums", client=client, config=settings)
    table = check_embeddings(pq.read_table(plate.lake.path(embeddings("sums", KEY))), where="test")
    vectors = table["embedding"].combine_chunks().values.to_numpy().reshape(len(table), -1)
    return table, vectors


def test_a_row_a_field_is_the_mean_of_its_rows_a_crop(plate, client):
    plate.publish()
    add_model(plate.lake, crop=16)
    _, crops = embed(plate, client)
    table, fields = embed(plate, client, per="field")
    assert {"y", "x"}.isdisjoint(table.column_names)
    assert list(zip(*table.select(["well", "field"]).to_pydict().values(), strict=True)) == [
        (well, field) for well in ("A01", "A02", "B11") for field in (1, 2)
    ]
    np.testing.assert_allclose(fields, crops.reshape(6, 16, -1).mean(axis=1), rtol=1e-6)


@pytest.mark.parametrize("edge", ["centre", "shift", "pad"])
def test_the_edge_is_where_the_rows_say(plate, client, edge):
    plate.publish()
    add_model(plate.lake, crop=16)
    table, vectors = embed(plate, client, crop=24, edge=edge)
    origins = crop_origins(64, 64, crop=24, stride=24, edge=edge)
    found = np.column_stack([table["y"], table["x"]])[: len(origins)]
    np.testing.assert_array_equal(found, origins)
    seen = np.pad(plate.pixels["A01", 1], [(0, 0), (0, 24), (0, 24)], mode="reflect")
    sums = [seen[:, y : y + 24, x : x + 24].sum((1, 2)) for y, x in origins]
    np.testing.assert_array_equal(vectors[: len(origins)], sums)


def test_a_plate_at_half_the_models_pixels_is_read_at_its_next_level(plate, client):
    plate.pixel_um = 0.325
    plate.publish()
    add_model(plate.lake, crop=16, pixel_size_um=0.65)
    table, vectors = embed(plate, client)
    assert table["x"].to_pylist()[:4] == [0, 32, 0, 32]
    sums = halve(plate.pixels["A01", 1])[:, :16, :16].sum((1, 2))
    np.testing.assert_array_equal(vectors[0], sums)
    whole, _ = embed(plate, client, rescale=False)
    assert len(whole) == 4 * len(table)


def test_a_plate_of_unknown_pixels_is_refused_and_nothing_published(plate, client):
    plate.publish()
    add_model(plate.lake, crop=16, pixel_size_um=0.65)
    with pytest.raises(InputError, match=r"size of a pixel in HUVEC-1/Plate3.*embed\.rescale"):
        embed(plate, client)
    assert plate.lake.manifest(embeddings("sums", KEY)) is None
    assert len(embed(plate, client, rescale=False)[0]) == 6 * 16


def test_a_missing_channel_is_zeros_where_the_card_says_so(plate, client):
    plate.publish()
    add_model(plate.lake, crop=16, channels=("AGP", "Mito"), missing="zero")
    _, vectors = embed(plate, client)
    np.testing.assert_array_equal(vectors[0], [plate.pixels["A01", 1][2, :16, :16].sum(), 0])
