"""Four nights of a small lab, on a real server: plates come, one is bad, settings change."""

import json

import numpy as np
import pytest
import tifffile
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from flows.nightly import nightly
from phenopipe.lake import Lake, embeddings, map_part
from phenopipe.maps import query_map
from phenopipe.plates import PlateKey

WELLS = ("B02", "B03", "B04", "B05")
PLATEMAP = """well,perturbation,perturbation_type,gene,control_type
B02,none,control,,negative
B03,none,control,,negative
B04,TP53,crispr,TP53,
B05,MDM2,crispr,MDM2,
"""


@pytest.fixture
def lab(tmp_path):
    """A landing zone with a platemap, and the assay's settings."""
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing/platemap.csv").write_text(PLATEMAP)
    (tmp_path / "assay.toml").write_text('[embed]\ncrop = 32\n[map]\nalign = "none"\n')
    return tmp_path


def write_plate(lab, name):
    folder = lab / "landing/Batch1" / name / "TimePoint_1"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(name))
    for well in WELLS:
        for wave in (1, 2):
            image = rng.integers(100, 300, (64, 64)).astype("uint16")
            image[16:40, 8:48] += rng.integers(1000, 3000, dtype="uint16")
            tifffile.imwrite(folder / f"{name}_{well}_s1_w{wave}.TIF", image)
    return folder


@pytest.fixture
def spend_night(server, lab):
    """Run one night; gives its state, and each item's outcome by stage."""

    def spend():
        state = nightly(
            source=str(lab / "landing"),
            root=str(lab / "lake"),
            map_name="all",
            quiet_minutes=0,
            settings=str(lab / "assay.toml"),
            compute_kind="threads",
            return_state=True,
        )
        run = ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id])
        tables = server.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=run))
        (table,) = [table for table in tables if table.key == "nightly"]
        rows = json.loads(table.data)
        return state, {(row["stage"], row["item"]): row["outcome"] for row in rows}

    return spend


@pytest.mark.timeout(900)
def test_four_nights(spend_night, lab):
    lake = Lake(lab / "lake")
    source = str(lab / "landing")
    first, second = (PlateKey("Batch1", name) for name in ("Plate1", "Plate2"))

    state, told = spend_night()
    assert state.is_completed(), state.message
    assert told == {("ingest", source): "done"}, "nothing came, so there is no map either"

    write_plate(lab, "Plate1")
    state, told = spend_night()
    assert state.is_completed(), state.message
    assert told == {
        ("ingest", source): "done",
        ("embed", str(first)): "done",
        ("map", "all"): "done",
    }
    assert query_map(lake, "all", "TP53")["neighbour"].to_pylist() == ["MDM2"]
    before = lake.manifest(embeddings("classical", first))

    # A plate that is torn, and one that is whole; the settings ask for other crops from now on.
    for path in write_plate(lab, "Torn").iterdir():
        path.write_bytes(b"torn")
    write_plate(lab, "Plate2")
    state, told = spend_night()
    assert state.is_failed()
    assert "Batch1/Torn failed" in state.message
    assert told[("embed", str(second))] == "done"
    assert told[("map", "all")] == "done", "the map is made of what could be embedded"

    (lab / "assay.toml").write_text('[embed]\ncrop = 16\n[map]\nalign = "none"\n')
    state, told = spend_night()
    assert told == {("ingest", source): "failed", ("map", "all"): "skipped"}
    assert lake.manifest(embeddings("classical", first)) == before, "left to a backfill"
    assert lake.manifest(map_part("all", "map.zarr")).counts["plates"] == 2
