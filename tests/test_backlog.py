from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from phenopipe import compute
from phenopipe.backlog import PlateWork, Wanted, group_plates, plan_embeddings
from phenopipe.config import EmbedConfig, IngestConfig
from phenopipe.embed import embed_plate
from phenopipe.embed.pieces import Embedded, publish_piece
from phenopipe.errors import InputError
from phenopipe.ingest import ingest_plate
from phenopipe.lake import Lake, Recipe, embeddings, plate_image, qc_table
from phenopipe.models import classical_card
from phenopipe.plates import FieldKey, PlateKey, Well
from tests.embed.conftest import PlateWriter
from tests.embed.graphs import add_model

KEYS = [PlateKey("HUVEC-1", "P1"), PlateKey("HUVEC-1", "P2"), PlateKey("U2OS-1", "P1")]
SMALL = EmbedConfig(crop=32)
TODAY = datetime.now(UTC).date()


@pytest.fixture(scope="module")
def client():
    with compute.client("threads", workers=1) as started:
        yield started


@pytest.fixture
def screen(tmp_path):
    """Three ingested plates of six fields, by plate."""
    lake = Lake(tmp_path / "lake")
    writers = {key: PlateWriter(lake, key=key) for key in KEYS}
    for writer in writers.values():
        writer.publish()
    return writers


@pytest.fixture
def lake(screen):
    return screen[KEYS[0]].lake


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """Give the same three plates for tests that only look."""
    lake = Lake(tmp_path_factory.mktemp("untouched"))
    for key in KEYS:
        PlateWriter(lake, key=key).publish()
    return lake


def plan(lake, *, config=SMALL, **wanted):
    return plan_embeddings(lake, Wanted(**wanted), config=config)


def states(backlog):
    return {work.key: work.state for work in (*backlog.done, *backlog.missing)}


def test_what_is_published_is_done_and_all_else_is_missing(lake, client):
    embed_plate(lake, KEYS[1], client=client, config=SMALL)
    backlog = plan(lake)
    assert [work.key for work in backlog.done] == [KEYS[1]]
    assert [work.key for work in backlog.missing] == [KEYS[0], KEYS[2]]
    assert states(backlog) == dict(zip(KEYS, ("missing", "published", "missing"), strict=True))
    assert (backlog.done[0].fields, backlog.done[0].crops, backlog.done[0].seconds) == (6, 24, 0)


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        EmbedConfig(crop=32, stride=20),
        EmbedConfig(crop=48, edge="shift"),
        EmbedConfig(crop=48, edge="pad"),
        EmbedConfig(crop=16, include_failed=True),
        EmbedConfig(crop=16, turns=4),
    ],
    ids=lambda config: str(config.model_dump(exclude_defaults=True)),
)
def test_as_many_fields_and_crops_are_estimated_as_are_embedded(tmp_path, client, config):
    lake = Lake(tmp_path)
    PlateWriter(lake, key=KEYS[0], failed=(("A02", 1), ("B11", 2))).publish()
    (work,) = plan(lake, config=config).missing
    counts = embed_plate(lake, KEYS[0], client=client, config=config).counts
    assert (work.fields, work.crops) == (counts["fields"], counts["crops"])


def test_the_estimate_sees_pixels_of_the_models_size(tmp_path, client):
    lake = Lake(tmp_path)
    PlateWriter(lake, key=KEYS[0], side=90, pixel_um=0.5).publish()
    add_model(lake, name="coarse", crop=16, pixel_size_um=1.3)
    (work,) = plan(lake, model="coarse", config=EmbedConfig()).missing
    counts = embed_plate(lake, KEYS[0], model="coarse", client=client).counts
    assert (work.fields, work.crops) == (6, counts["crops"]) == (6, 24)
    # Of the level that is read, halved once: three channels of 45 x 45 pixels of two bytes.
    assert work.bytes_read == 6 * 3 * 45 * 45 * 2
    assert work.bytes_written == 24 * 3 * 4


def test_one_row_a_field_writes_less_and_sees_as_many_crops(untouched):
    whole, meaned = (
        plan(untouched, config=EmbedConfig(crop=32, per=per)).missing[0]
        for per in ("crop", "field")
    )
    assert meaned.crops == whole.crops == 24
    assert meaned.bytes_written * 4 == whole.bytes_written


def publish_platemap_anew(writer):
    writer.publish_platemap([{"well": "A01", "perturbation": "TP53"}])


def publish_image_anew(writer):
    writer.seed = 1
    writer.publish()


def publish_qc_anew(writer):
    writer.failed = (("A01", 1),)
    writer.publish()


@pytest.mark.parametrize(
    ("change", "config", "why"),
    [
        (publish_platemap_anew, SMALL, "published anew since: platemaps/HUVEC-1/P1.parquet"),
        (publish_image_anew, SMALL, "published anew since: images/HUVEC-1/P1.zarr"),
        (publish_qc_anew, SMALL, "published anew since: "),
        (None, EmbedConfig(crop=64), "crop is 32, asked for 64; stride is 32, asked for 64"),
        (None, EmbedConfig(crop=32, turns=4), "turns is 1, asked for 4"),
        (None, EmbedConfig(crop=32, rescale=False), "rescale is True, asked for False"),
        (
            None,
            EmbedConfig(crop=32, include_failed=True),
            "include_failed is False, asked for True",
        ),
    ],
)
def test_a_stale_plate_says_why_and_is_what_embedding_computes(
    screen, lake, client, change, config, why
):
    for key in KEYS[:2]:
        embed_plate(lake, key, client=client, config=SMALL)
    if change:
        change(screen[KEYS[0]])
    backlog = plan(lake, experiments=("HUVEC-1",), config=config)
    stale = {work.key: work for work in backlog.missing}
    assert stale[KEYS[0]].state == "stale"
    assert why in stale[KEYS[0]].why
    computed = {
        key for key in KEYS[:2] if embed_plate(lake, key, client=client, config=config).computed
    }
    assert computed == stale.keys()


def test_settings_that_touch_no_number_leave_plates_done(lake, client):
    for key in KEYS:
        embed_plate(lake, key, client=client, config=SMALL)
    backlog = plan(lake, config=EmbedConfig(crop=32, patience_s=7))
    assert [work.key for work in backlog.done] == KEYS
    assert backlog.totals()["hours"] == 0


def test_a_newer_version_of_the_model_makes_plates_stale_unless_the_old_is_asked_for(lake, client):
    add_model(lake)
    embed_plate(lake, KEYS[0], model="sums", client=client)
    add_model(lake, version="2", crop=16)
    newest = plan(lake, model="sums", config=EmbedConfig(), plates=("HUVEC-1/P1",))
    assert newest.model_version == "2"
    assert newest.missing[0].why.startswith("version is 1, asked for 2")
    old = plan(lake, model="sums", version="1", config=EmbedConfig(), plates=("HUVEC-1/P1",))
    assert (len(old.done), old.missing, old.model_version) == (1, (), "1")
    assert not embed_plate(lake, KEYS[0], model="sums", version="1", client=client).computed
    with pytest.raises(InputError, match=r"expected version 3 of model sums .* found 1, 2"):
        plan(lake, model="sums", version="3")


def test_a_model_that_is_not_there_is_named(lake):
    add_model(lake)
    with pytest.raises(InputError, match=r"expected a model vit in .*, found sums: choose one"):
        plan(lake, model="vit")


def test_pieces_of_a_run_that_was_stopped_are_told(lake):
    table = embeddings("classical", KEYS[2])
    field = Embedded(FieldKey(Well(0, 0), 1), np.zeros((1, 2), "int32"), np.ones((1, 2), "float32"))
    recipe = Recipe("embed pieces", 1, {}, {})
    publish_piece(lake, table, recipe, [field], facts={}, started=datetime.now(UTC))
    found = {work.key: work for work in plan(lake).missing}
    assert found[KEYS[2]].state == "begun"
    assert "taken up" in found[KEYS[2]].why
    assert found[KEYS[0]].state == "missing"


def test_a_plate_that_cannot_be_embedded_stands_among_the_others_with_its_reason(lake):
    PlateWriter(lake, key=PlateKey("HUVEC-1", "P0"), channels=("ER",)).publish()
    lake.clear(qc_table(KEYS[1]))
    add_model(lake, channels=("DNA", "AGP"))
    poisoned, no_qc, *sound = sorted(
        plan(lake, model="sums").missing, key=lambda work: work.crops > 0
    )
    assert "expected channels DNA, AGP in HUVEC-1/P0" in poisoned.why
    assert "expected qc/HUVEC-1/P2.parquet" in no_qc.why
    assert "run phenopipe ingest on HUVEC-1/P2" in no_qc.why
    assert (poisoned.seconds, no_qc.seconds) == (0, 0)
    assert [work.key for work in sound] == [KEYS[0], KEYS[2]]
    assert all(work.seconds > 0 and not work.why for work in sound)


def test_a_plate_whose_image_is_damaged_is_told_and_stops_no_other(lake):
    lake.remove("images/HUVEC-1/P1.zarr/zarr.json")
    with lake.draft(plate_image(KEYS[1]), "A/01/1/0/zarr.json") as path:
        path.write_text("{")
    gone, torn, sound = plan(lake).missing
    assert "expected the metadata of images/HUVEC-1/P1.zarr as they were published" in gone.why
    assert "FileNotFoundError" in gone.why
    assert "JSONDecodeError" in torn.why
    assert (gone.crops, torn.crops, sound.crops) == (0, 0, 24)


def test_what_is_published_is_to_be_done_again_when_forced(lake, client):
    embed_plate(lake, KEYS[0], client=client, config=SMALL)
    (work,) = plan(lake, plates=("HUVEC-1/P1",), force=True).missing
    assert (work.state, work.why, work.crops) == ("published", "asked for anew", 24)
    before = lake.manifest(embeddings("classical", KEYS[0]))
    assert embed_plate(lake, KEYS[0], client=client, config=SMALL, force=True).computed
    after = lake.manifest(embeddings("classical", KEYS[0]))
    assert after.started > before.started
    assert after.files == before.files


def test_a_forced_run_that_starts_again_leaves_what_it_has_done(lake, client):
    run, other = (Lake(lake.root, run_id=name) for name in ("run", "other"))
    for where, computed in ((run, True), (run, False), (other, True), (run, True)):
        ref = embed_plate(where, KEYS[0], client=client, config=SMALL, force=True)
        assert ref.computed is computed


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ({}, KEYS),
        ({"experiments": ("HUVEC-*",)}, KEYS[:2]),
        ({"experiments": ("U2OS-1", "HUVEC-1")}, KEYS),
        ({"plates": ("P1",)}, [KEYS[0], KEYS[2]]),
        ({"plates": ("P?", "P1")}, KEYS),
        ({"plates": ("U2OS-1/P1", "HUVEC-1/P2")}, [KEYS[1], KEYS[2]]),
        ({"plates": ("*/P1",)}, [KEYS[0], KEYS[2]]),
        ({"experiments": ("HUVEC-1",), "plates": ("P1",)}, [KEYS[0]]),
        ({"since": TODAY - timedelta(1), "until": TODAY + timedelta(1)}, KEYS),
        ({"since": TODAY + timedelta(2)}, []),
        ({"until": TODAY - timedelta(2)}, []),
    ],
)
def test_plates_are_chosen_by_name_pattern_and_day(untouched, wanted, chosen):
    assert [work.key for work in plan(untouched, **wanted).missing] == chosen


def test_both_days_are_counted_in():
    wanted = Wanted(since=date(2026, 3, 1), until=date(2026, 3, 2))
    days = [date(2026, 2, 28), date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3)]
    assert [wanted.covers(day) for day in days] == [False, True, True, False]
    with pytest.raises(InputError, match="expected since to lie before until"):
        Wanted(since=date(2026, 3, 2), until=date(2026, 3, 1))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"experiments": ("HUVEC-9",)}, "plate of experiment HUVEC-9 .*found HUVEC-1, U2OS-1"),
        ({"plates": ("Q*",)}, r"plate of plate Q\* .*found HUVEC-1/P1"),
        ({"experiments": ("U2OS-1",), "plates": ("P2",)}, "found P1, U2OS-1/P1"),
        # An asterisk does not reach from the experiment into the plate.
        ({"plates": ("HUVEC*",)}, r"plate of plate HUVEC\*"),
    ],
)
def test_a_name_that_fits_no_plate_is_refused(untouched, wanted, message):
    with pytest.raises(InputError, match=message):
        plan(untouched, **wanted)


def test_nothing_is_written(untouched):
    def found():
        files = sorted(path for path in Path(untouched.root).rglob("*") if path.is_file())
        return {path: path.stat().st_mtime_ns for path in files}

    before = found()
    assert len(plan(untouched).missing) == 3
    assert found() == before


def test_an_empty_lake_has_nothing_to_do(tmp_path):
    backlog = plan(Lake(tmp_path))
    assert (backlog.done, backlog.missing, backlog.as_rows()) == ((), (), [])


def test_seconds_come_from_the_median_of_plates_embedded_so_before(lake):
    for key, seconds in zip(KEYS[1:], (20, 40), strict=True):
        publish_table(lake, key, crops=400, seconds=seconds)
    publish_table(lake, PlateKey("Other", "P9"), crops=400, seconds=1, crop=64)
    (work,) = plan(lake, plates=("HUVEC-1/P1",)).missing
    backlog = plan(lake, plates=("HUVEC-1/P1",))
    # 20 and 10 crops a second, and 24 crops.
    assert work.seconds == pytest.approx(24 / 15)
    assert backlog.basis == (
        "measured: 15.0 crops a second, the median of 2 plates that were embedded so with "
        "classical 1 here"
    )
    assert backlog.totals()["hours"] == pytest.approx(24 / 15 / 3600)


def test_the_newest_twenty_tables_set_the_pace(lake):
    for number in range(30):
        key = PlateKey("Old" if number < 10 else "Now", f"P{number}")
        publish_table(lake, key, crops=400, seconds=1 if number < 10 else 4, days=30 - number)
    assert plan(lake).missing[0].seconds == pytest.approx(24 / 100)


def test_seconds_are_said_to_be_assumed_where_nothing_was_measured(untouched):
    backlog, turned = plan(untouched), plan(untouched, config=EmbedConfig(crop=32, turns=4))
    once = backlog.missing[0].seconds
    # A ViT-S/16 on two cores: 15.9 crops of 256 x 256 a second.
    assert once == pytest.approx(24 / (15.9 * 64))
    assert turned.missing[0].seconds == pytest.approx(4 * once)
    assert backlog.basis.startswith("assumed: 1,018 crops a second")


def test_rows_are_in_units_for_people_and_what_is_to_be_done_comes_first(lake, client):
    embed_plate(lake, KEYS[0], client=client, config=SMALL)
    work = PlateWork("E", "P", "missing", "", 9, 36, 90.0, 2_500_000_000, 1_000_000)
    assert work.as_row() == {
        "experiment": "E",
        "plate": "P",
        "state": "missing",
        "why": "",
        "fields": 9,
        "crops": 36,
        "minutes": 1.5,
        "read_gb": 2.5,
        "written_gb": 0.001,
    }
    backlog = plan(lake)
    rows = [(row["experiment"], row["plate"], row["state"]) for row in backlog.as_rows()]
    assert rows == [
        ("HUVEC-1", "P2", "missing"),
        ("U2OS-1", "P1", "missing"),
        ("HUVEC-1", "P1", "published"),
    ]
    assert backlog.totals() | {"hours": 0} == {
        "done": 1,
        "missing": 2,
        "fields": 12,
        "crops": 48,
        "hours": 0,
        "bytes_read": 12 * 3 * 64 * 64 * 2,
        "bytes_written": 48 * 72 * 4,
    }


def test_a_plate_that_was_ingested_is_planned_alike_in_a_folder_and_a_bucket(
    root, tmp_path, client
):
    folder = tmp_path / "delivered" / "HUVEC-1" / "P1"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("B02_f1_DNA", "B02_f1_ER", "C03_f1_DNA", "C03_f1_ER"):
        tifffile.imwrite(folder / f"{name}.tif", rng.integers(0, 999, (64, 64), "uint16"))
    pattern = r"(?P<well>[A-P]\d+)_f(?P<site>\d+)_(?P<channel>\w+)\.tif"
    lake = Lake(root)
    ingest_plate(folder, lake, client=client, config=IngestConfig(pattern=pattern))
    config = EmbedConfig(crop=32, include_failed=True)
    (work,) = plan(lake, config=config).missing
    counts = embed_plate(lake, KEYS[0], client=client, config=config).counts
    assert (work.state, work.fields, work.crops) == ("missing", 2, 8)
    assert (counts["fields"], counts["crops"]) == (2, 8)
    assert plan(lake, config=config).missing == ()


@given(
    seconds=st.lists(st.floats(0, 500), max_size=60),
    most=st.integers(1, 12),
    start_up_s=st.floats(0.1, 20),
)
def test_groups_hold_every_plate_in_order_and_are_full_but_for_the_last(seconds, most, start_up_s):
    works = [PlateWork("E", f"P{n}", "missing", seconds=s) for n, s in enumerate(seconds)]
    groups = group_plates(works, start_up_s=start_up_s, share=0.05, most=most)
    assert [work for group in groups for work in group] == works
    assert all(1 <= len(group) <= most for group in groups)
    for group in groups[:-1]:
        total = sum(work.seconds for work in group)
        assert len(group) == most or start_up_s <= 0.05 * total * (1 + 1e-9)
    # No plate is in a group that had enough work without it.
    assert all(sum(work.seconds for work in group[:-1]) < start_up_s / 0.05 for group in groups)


def publish_table(lake, key, *, crops, seconds, days=0, crop=32):
    """Publish a table whose manifest says that it took so long, so many days ago."""
    table = embeddings("classical", key)
    settings = {"crop": crop, "stride": crop, "per": "crop", "turns": 1, "provider": "cpu"}
    recipe = Recipe("embed", 1, {}, settings, model_digest=classical_card().digest)
    finished = datetime.now(UTC) - timedelta(days)
    with lake.writing(table):
        with lake.draft(table) as path:
            path.write_bytes(b"rows")
        counts = {"crops": crops, "fields": 1}
        manifest = lake.publish(table, recipe, counts=counts, started=finished)
    times = {"started": finished - timedelta(seconds=seconds), "finished": finished}
    Path(lake.root, table.manifest).write_text(manifest.model_copy(update=times).model_dump_json())
