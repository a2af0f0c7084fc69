import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from ome_zarr_models.v05.image import Image

from phenopipe.config import IngestConfig
from phenopipe.ingest.index import ImageFile, Place, PlateIndex
from phenopipe.ingest.plate_image import (
    Acquisition,
    find_acquisitions,
    make_template,
    write_field,
)
from phenopipe.plates import Well
from phenopipe.pyramid import halve

B03 = Well.parse("B03")


def list_images(*planes):
    return tuple(
        ImageFile(f"{number}.tif", B03, 1, c, z=z, t=t) for number, (c, z, t) in enumerate(planes)
    )


def make_index(folder, images):
    labels = {"1": "DNA", "2": "ER"}
    return PlateIndex(
        folder, "imagexpress", "", "P", images, labels, (8, 12), pixel_size_um=0.65, z_step_um=2.0
    )


def template_for(acquisition, pixels, **config):
    return make_template(
        acquisition,
        plane=pixels.shape[-2:],
        dtype=pixels.dtype.name,
        index=make_index(Path(), ()),
        windows={"1": (10.0, 900.0)},
        config=IngestConfig(**config),
    )


@pytest.mark.parametrize(
    ("planes", "axes", "suffixes"),
    [
        ([("1", None, None), ("2", None, None)], ["cyx"], [""]),
        ([("1", None, 0), ("2", None, 0)], ["cyx"], [""]),
        ([("1", None, 0), ("1", None, 1)], ["tcyx"], [""]),
        ([("1", 0, None), ("2", 0, None)], ["cyx"], [""]),
        ([("1", 0, None), ("1", 1, None)], ["czyx"], ["z"]),
        ([("1", None, None), ("1", 0, None), ("1", 1, None)], ["cyx", "czyx"], ["", "z"]),
        ([("1", 0, 0), ("1", 1, 0), ("1", 0, 1)], ["tczyx"], ["z"]),
    ],
)
def test_acquisitions_follow_from_the_planes_that_there_are(tmp_path, planes, axes, suffixes):
    found = find_acquisitions(make_index(tmp_path, list_images(*planes)))
    assert [a.axes for a in found] == axes
    assert [a.suffix for a in found] == suffixes


def test_a_stack_has_only_the_channels_that_were_taken_as_one(tmp_path):
    images = list_images(("1", None, None), ("2", None, None), ("2", 0, None), ("2", 1, None))
    planes, stack = find_acquisitions(make_index(tmp_path, images))
    assert (planes.channels, stack.channels) == (("1", "2"), ("2",))
    assert stack.leading == (1, 2)


shapes = st.tuples(st.integers(1, 2), st.integers(1, 70), st.integers(1, 70))


@settings(deadline=None, max_examples=25)
@given(
    pixels=st.sampled_from(["uint8", "uint16"]).flatmap(
        lambda dtype: arrays.arrays(dtype, shapes, fill=st.just(0))
    ),
    chunk=st.integers(16, 64),
)
def test_zarr_reads_back_the_very_pixels_whatever_their_size(tmp_path_factory, pixels, chunk):
    folder = tmp_path_factory.mktemp("plate") / "1"
    acquisition = Acquisition("", ("1", "2")[: len(pixels)], n_t=1, n_z=1)
    write_field(folder, pixels, template_for(acquisition, pixels, chunk=chunk, levels=3))
    group = zarr.open_group(folder, mode="r")
    np.testing.assert_array_equal(group["0"][...], pixels)
    np.testing.assert_array_equal(group["2"][...], halve(halve(pixels)))
    files = {path.name for path in (folder / "0").rglob("*") if path.is_file()}
    assert files == ({"zarr.json", "0"} if pixels.any() else {"zarr.json"})
    Image.from_zarr(group)


def test_a_part_of_a_field_is_read_from_one_shard_by_its_inner_chunks(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4096, (2, 192, 192), dtype="uint16")
    template = template_for(Acquisition("", ("1", "2"), 1, 1), pixels, chunk=64)
    write_field(tmp_path, pixels, template)
    array = zarr.open_array(tmp_path / "0", mode="r")
    assert (array.shards, array.chunks) == ((2, 192, 192), (1, 64, 64))
    np.testing.assert_array_equal(array[1, 60:130, 5:70], pixels[1, 60:130, 5:70])


def test_stacks_over_time_keep_five_axes_and_halve_only_y_and_x(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (2, 1, 3, 32, 48), dtype="uint8")
    acquisition = Acquisition("z", ("1",), n_t=2, n_z=3)
    write_field(tmp_path, pixels, template_for(acquisition, pixels))
    group = zarr.open_group(tmp_path, mode="r")
    assert group["1"].shape == (2, 1, 3, 16, 24)
    assert group["0"].metadata.dimension_names == ("t", "c", "z", "y", "x")
    np.testing.assert_array_equal(group["0"][...], pixels)


def test_metadata_tell_channels_colours_windows_and_micrometres(tmp_path):
    pixels = np.zeros((2, 64, 64), "uint16")
    write_field(tmp_path, pixels, template_for(Acquisition("", ("1", "2"), 1, 1), pixels))
    ome = json.loads((tmp_path / "zarr.json").read_text())["attributes"]["ome"]
    first, second = ome["omero"]["channels"]
    assert (first["label"], second["label"]) == ("DNA", "ER")
    assert (first["window"]["start"], first["window"]["end"]) == (10.0, 900.0)
    (multiscale,) = ome["multiscales"]
    assert [axis.get("unit") for axis in multiscale["axes"]] == [None, "micrometer", "micrometer"]
    scale, shift = multiscale["datasets"][1]["coordinateTransformations"]
    assert scale["scale"] == [1.0, 1.3, 1.3]
    assert shift["translation"] == [0.0, 0.325, 0.325]


def test_a_place_is_a_translation_in_micrometres_and_a_time_in_utc(tmp_path):
    pixels = np.ones((2, 32, 32), "uint16")
    place = Place(-120.5, 80.0, None, datetime(2026, 5, 1, 9, tzinfo=timezone(timedelta(hours=2))))
    template = template_for(Acquisition("", ("1", "2"), 1, 1), pixels)
    write_field(tmp_path, pixels, template, place=place)
    attributes = json.loads((tmp_path / "zarr.json").read_text())["attributes"]
    scale, shift = attributes["ome"]["multiscales"][0]["coordinateTransformations"]
    assert (scale["scale"], shift["translation"]) == ([1.0, 1.0, 1.0], [0.0, 80.0, -120.5])
    acquired = datetime.fromisoformat(attributes["phenopipe"].pop("acquired"))
    assert acquired == datetime(2026, 5, 1, 7, tzinfo=UTC)
    assert attributes["phenopipe"] == {"x_um": -120.5, "y_um": 80.0}
    Image.from_zarr(zarr.open_group(tmp_path, mode="r"))


def test_the_steps_of_a_stack_are_in_micrometres(tmp_path):
    pixels = np.ones((1, 3, 32, 32), "uint16")
    write_field(tmp_path, pixels, template_for(Acquisition("z", ("1",), n_t=1, n_z=3), pixels))
    ome = json.loads((tmp_path / "zarr.json").read_text())["attributes"]["ome"]
    (multiscale,) = ome["multiscales"]
    (scale,) = multiscale["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [1.0, 2.0, 0.65, 0.65]
    assert [axis.get("unit") for axis in multiscale["axes"]] == [None, *["micrometer"] * 3]
