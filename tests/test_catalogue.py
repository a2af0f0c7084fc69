from datetime import UTC, datetime
from pathlib import Path

import pytest

from phenopipe.catalogue import describe_lake, list_plates, sweep_lake, tabulate_plates, verify_lake
from phenopipe.lake import Lake, Recipe, Thing, embeddings, plate_image
from phenopipe.plates import PlateKey

KEYS = [PlateKey("Batch1", "P1"), PlateKey("Batch1", "P2")]


def publish(lake, thing, inputs, *, version=1):
    with lake.writing(thing):
        with lake.draft(thing) as folder:
            folder.mkdir()
            (folder / "data").write_text(thing.path)
        recipe = Recipe("stage", version, inputs, {})
        return lake.publish(thing, recipe, counts={}, started=datetime.now(UTC))


@pytest.fixture
def lake(root):
    """Two ingested plates; the first one embedded."""
    lake = Lake(root)
    manifests = [publish(lake, plate_image(key), {}) for key in KEYS]
    publish(lake, embeddings("classical", KEYS[0]), {manifests[0].thing: manifests[0].key})
    return lake


def states(lake):
    return {entry.thing: entry.state for entry in describe_lake(lake)}


def test_plates_by_stages(lake):
    assert list_plates(lake) == KEYS
    assert tabulate_plates(describe_lake(lake)) == [
        {
            "experiment": "Batch1",
            "plate": "P1",
            "ingest": "published",
            "embed:classical": "published",
        },
        {
            "experiment": "Batch1",
            "plate": "P2",
            "ingest": "published",
            "embed:classical": "missing",
        },
    ]


def test_a_thing_goes_stale_when_its_input_is_published_anew(lake):
    publish(lake, plate_image(KEYS[0]), {}, version=2)
    assert states(lake)["embeddings/classical/Batch1/P1.parquet"] == "stale"


def test_half_written_data_are_told_and_swept(lake):
    torn = embeddings("classical", KEYS[1])
    with lake.writing(torn), lake.draft(torn) as path:
        path.write_text("half")
    assert states(lake)[torn.path] == "half-written"
    assert sweep_lake(lake, dry_run=True) == [torn.path]
    assert lake.unpublished("embeddings") == [torn]
    assert sweep_lake(lake) == [torn.path]
    assert lake.unpublished("embeddings") == []
    assert states(lake) == dict.fromkeys(states(lake), "published")


def test_sweeping_leaves_a_running_stage_alone(lake):
    torn = embeddings("classical", KEYS[1])
    with lake.writing(torn):
        with lake.draft(torn) as path:
            path.write_text("at work")
        assert sweep_lake(lake) == []
        assert sweep_lake(lake, dry_run=True) == []
        assert lake.unpublished("embeddings") == [torn]


def test_the_draft_of_a_manifest_is_swept_unless_its_thing_is_at_work(tmp_path):
    lake, thing = Lake(tmp_path), plate_image(KEYS[0])
    publish(lake, thing, {})
    draft = Path(lake.root) / f"{thing.manifest}.123.part"
    draft.write_text("{")
    with lake.try_lock(thing):
        assert sweep_lake(lake) == []
    assert sweep_lake(lake) == ["images/Batch1/P1.zarr.json.123.part"]
    assert not draft.exists()
    assert lake.manifest(thing) is not None


def test_verify_names_each_file_that_differs(lake):
    assert verify_lake(lake) == []
    for name in ("data", "stray"):
        with lake.draft(plate_image(KEYS[0]), name) as path:
            path.write_text("other")
    (found,) = verify_lake(lake)
    assert found.thing == "images/Batch1/P1.zarr"
    assert found.why == "data: has other bytes; stray: was not published"


def test_data_that_are_gone_are_told(lake):
    lake.remove(plate_image(KEYS[1]).path)
    (entry,) = [e for e in describe_lake(lake) if e.state != "published"]
    assert (entry.thing, entry.state) == (plate_image(KEYS[1]).path, "damaged")
    assert [entry.thing for entry in verify_lake(lake)] == [plate_image(KEYS[1]).path]


def test_a_model_is_a_thing_of_its_own(root):
    lake = Lake(root)
    publish(lake, Thing("models/classical/1"), {})
    assert [entry.thing for entry in describe_lake(lake)] == ["models/classical/1"]


def test_parts_of_a_verification_add_up_to_all_of_it(lake):
    for thing in (plate_image(KEYS[0]), plate_image(KEYS[1]), embeddings("classical", KEYS[0])):
        lake.remove(f"{thing.path}/data")
    counted = []
    whole = verify_lake(lake, on_progress=lambda *told: counted.append(told))
    assert counted == [(1, 3), (2, 3), (3, 3)]
    parts = [verify_lake(lake, part=part, parts=2) for part in range(2)]
    assert sorted([*parts[0], *parts[1]]) == sorted(whole)
    assert len(whole) == 3
