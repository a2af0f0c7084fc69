"""Every kind of plate that is written passes the OME-Zarr 0.5 specification's own schemas."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from jsonschema import Draft202012Validator, ValidationError
from ome_zarr_models import open_ome_zarr
from ome_zarr_models.v05.hcs import HCS
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from phenopipe import compute
from phenopipe.config import IngestConfig
from phenopipe.ingest import ingest_plate
from phenopipe.lake import Lake

SPECIFICATION = "plates/ngff/ngff-spec-0.4-0.5/0.5"


@pytest.fixture(scope="module")
def validate(shared):
    """Give a function that checks a group's attributes by one of the specification's schemas."""
    schemas = {
        path.stem: json.loads(path.read_text())
        for path in sorted((shared(SPECIFICATION) / "schemas").glob("*.schema"))
    }
    named = [(schema["$id"], DRAFT202012.create_resource(schema)) for schema in schemas.values()]
    registry = Registry().with_resources(named)

    def check(attributes, schema):
        Draft202012Validator(schemas[schema], registry=registry).validate(attributes)

    return check


# --- the check itself: it gives the specification's own verdicts --------------------------------


def test_the_suites_verdicts_are_given(shared, validate):
    count = {True: 0, False: 0}
    for path in sorted((shared(SPECIFICATION) / "tests").glob("*_suite.json")):
        suite = json.loads(path.read_text())
        schema = Path(suite["schema"]["id"]).stem
        for case in suite["tests"]:
            count[case["valid"]] += 1
            if case["valid"]:
                validate(case["data"], schema)
                continue
            with pytest.raises(ValidationError):
                validate(case["data"], schema)
    assert count == {True: 21, False: 64}


def test_the_examples_are_valid(shared, validate):
    configs = sorted((shared(SPECIFICATION) / "examples").glob("*/.config.json"))
    assert len(configs) == 6
    for config in configs:
        schema = Path(json.loads(config.read_text())["schema"]).stem
        for path in sorted(config.parent.glob("*.json")):
            lines = path.read_text().splitlines()
            plain = "".join(line for line in lines if not line.lstrip().startswith("//"))
            if path != config:
                validate(json.loads(plain)["attributes"], schema)


# --- every kind of plate --------------------------------------------------------------------------

STEPS = ("", "ZStep_1/", "ZStep_2/")
# Folders of the images, by the kind of plate that they make.
PLATES = {
    "planes": ["TimePoint_1/"],
    "stack": [f"TimePoint_1/{step}" for step in STEPS[1:]],
    "stack beside its projection": [f"TimePoint_1/{step}" for step in STEPS],
    "time series": ["TimePoint_1/", "TimePoint_2/"],
    "time series of stacks": [f"TimePoint_{t}/{step}" for t in (1, 2) for step in STEPS[1:]],
}
AXES = {
    "planes": {"cyx"},
    "stack": {"czyx"},
    "stack beside its projection": {"cyx", "czyx"},
    "time series": {"tcyx"},
    "time series of stacks": {"tczyx"},
}


def write_images(folder, inner):
    """Write a plate as MetaXpress exports it: 2 wells x 2 sites x 2 channels, 40 x 50 pixels."""
    rng = np.random.default_rng(0)
    for part, well, site, wave in product(inner, ("B02", "C03"), (1, 2), (1, 2)):
        path = folder / part / f"P1_{well}_s{site}_w{wave}.TIF"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, rng.integers(100, 3000, (40, 50)).astype("uint16"))
    return folder


@pytest.fixture(scope="module", params=PLATES)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def written(kind, tmp_path_factory):
    """Ingest a plate of one kind; gives the plate image's folder."""
    folder = tmp_path_factory.mktemp("ngff")
    source = write_images(folder / "Batch1/P1", PLATES[kind])
    with compute.client("threads", workers=1) as client:
        ref = ingest_plate(source, Lake(folder / "lake"), client=client, config=IngestConfig())
    return folder / "lake" / ref.thing


def test_each_group_passes_the_strict_schemas(written, validate):
    plate = zarr.open_group(written, mode="r")
    ome = plate.attrs["ome"]
    for schema in ("plate", "strict_plate", "ome_zarr"):
        validate(dict(plate.attrs), schema)
    for well in ome["plate"]["wells"]:
        group = plate[well["path"]]
        for schema in ("well", "strict_well", "ome_zarr"):
            validate(dict(group.attrs), schema)
        for image in group.attrs["ome"]["well"]["images"]:
            for schema in ("image", "strict_image", "ome_zarr"):
                validate(dict(group[image["path"]].attrs), schema)


def test_the_models_read_it_as_a_plate_of_the_kind(written, kind):
    plate = open_ome_zarr(zarr.open_group(written, mode="r"), version="0.5")
    assert isinstance(plate, HCS)
    arrays = [json.loads(p.read_text()) for p in written.glob("*/*/*/0/zarr.json")]
    assert {"".join(array["dimension_names"]) for array in arrays} == AXES[kind]


def test_the_models_command_finds_it_valid(written):
    command = Path(sys.executable).with_name("ome-zarr-models")
    done = subprocess.run(
        [command, "validate", written], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_check_bites_on_a_plate_that_was_spoilt(written, validate):
    attributes = json.loads((written / "zarr.json").read_text())["attributes"]
    del attributes["ome"]["plate"]["wells"][0]["rowIndex"]
    with pytest.raises(ValidationError, match="rowIndex"):
        validate(attributes, "plate")
