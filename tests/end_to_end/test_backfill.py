"""Backfills as a scientist starts them: with a plate that cannot be read, and two at a time."""

from pathlib import Path

import pytest
from end_to_end.installation import TO_THE_MAP, half_written, published

from phenopipe.lake import embeddings, plate_image
from phenopipe.plates import PlateKey

POISONED = PlateKey("Batch2", "Plate2")


@pytest.fixture
def torn(ingested):
    """Cut one file of a published plate short, as a failing disk does; returns how to mend it."""
    shard = sorted(Path(ingested.path(plate_image(POISONED))).glob("*/*/1/0/c/0/0/0"))[7]
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    return lambda: shard.write_bytes(whole)


@pytest.mark.timeout(1200)
def test_a_plate_that_cannot_be_read_fails_alone_and_is_made_up_for_later(
    installation, ingested, undisturbed, torn
):
    choice = {"root": ingested.root, **TO_THE_MAP}
    failing = installation.finish("backfill/backfill", where="cpu", **choice)
    assert failing.state.is_failed()
    rows = {row["item"]: row for row in installation.table("backfill-result", failing)}
    assert {item: row["outcome"] for item, row in rows.items()} == {
        "Batch1/Plate1": "done",
        "Batch2/Plate2": "failed",
        "nightly": "done",
    }
    assert "found damaged bytes" in rows["Batch2/Plate2"]["message"]
    (child,) = installation.children(failing)
    assert f"{installation.server.address}/runs/flow-run/{child.id}" in rows["Batch2/Plate2"]["run"]

    torn()
    mended = installation.finish("backfill/backfill", where="here", **choice)
    assert mended.state.is_completed(), mended.state.message
    rows = installation.table("backfill-result", mended)
    assert {row["item"] for row in rows if row["outcome"] == "done"} == {"Batch2/Plate2", "nightly"}
    assert published(ingested) == published(undisturbed)
    assert half_written(ingested) == []


@pytest.mark.timeout(1200)
def test_two_backfills_of_one_plate_embed_it_once(installation, ingested, undisturbed):
    key = PlateKey("Batch1", "Plate1")
    one_plate = {"root": ingested.root, "plates": [key.plate], "compute_kind": "threads"}
    runs = [installation.start("backfill/backfill", **one_plate) for _ in range(2)]
    ended = [installation.end_of(run) for run in runs]
    (one,), (other,) = (installation.table("backfill-result", run) for run in ended)
    first, second = sorted((one, other), key=lambda row: row["outcome"] != "done")
    assert first["outcome"] == "done"
    assert second["outcome"] == "skipped" or "found another at it" in second["message"]
    thing = embeddings("classical", key)
    assert ingested.manifest(thing).files == undisturbed.manifest(thing).files
    assert half_written(ingested) == []
