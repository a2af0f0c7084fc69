import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import zarr
from ome_zarr_models import open_ome_zarr
from ome_zarr_models.v05.hcs import HCS

from phenopipe import compute
from phenopipe.config import IngestConfig
from phenopipe.digests import digest_file
from phenopipe.errors import InputError
from phenopipe.ingest import field as field_module
from phenopipe.ingest import ingest_plate, read_layout
from phenopipe.lake import Lake, ledger, plate_image, platemap, qc_table
from phenopipe.plates import PlateKey
from phenopipe.schema import LEDGER, QC, check_table

KEY = PlateKey("Batch1", "P1")


@pytest.fixture(scope="module")
def client():
    with compute.client("threads", workers=1) as one:
        yield one


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


@pytest.fixture
def plate(tmp_path):
    """Write a plate as MetaXpress exports it: 2 wells x 2 sites x 2 channels, 40 x 50 pixels."""
    folder = tmp_path / "Batch1" / "P1"
    (folder / "TimePoint_1").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for well in ("B02", "B03"):
        for site in (1, 2):
            for wave in (1, 2):
                image = rng.integers(100, 300, (40, 50)).astype("uint16")
                image[10:20, 10:30] += 2000
                tifffile.imwrite(folder / f"TimePoint_1/P1_{well}_s{site}_w{wave}.TIF", image)
    return folder


def name_file(plate, well, site, wave):
    return plate / f"TimePoint_1/P1_{well}_s{site}_w{wave}.TIF"


def read_rows(lake, thing):
    return pq.read_table(lake.path(thing)).to_pylist()


def open_plate(lake, key=KEY):
    return zarr.open_group(lake.path(plate_image(key)), mode="r")


def stamp(lake):
    return {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in sorted(Path(lake.root).rglob("*"))}


def assert_pixels_are_the_files(group, index):
    """Compare each image file, read by tifffile, with its plane in the plate image."""
    stacked = {i.z for i in index.images}
    has_stack = len(stacked) > 1
    for image in index.images:
        suffix = "z" if has_stack and image.z is not None else ""
        path = f"{image.well.row_name}/{image.well.column_name}/{image.field}{suffix}"
        array = group[path]["0"]
        labels = [c["label"] for c in group[path].attrs["ome"]["omero"]["channels"]]
        place = {"t": image.t, "c": labels.index(index.channels[image.channel]), "z": image.z}
        at = tuple(place[axis] or 0 for axis in array.metadata.dimension_names[:-2])
        np.testing.assert_array_equal(array[at], tifffile.imread(index.folder / image.path))


EXPORTED = "plates/imagexpress/ImageXpress_exported"
DATABASE = "plates/imagexpress/ImageXpress"


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        (f"{EXPORTED}/9987_Plate_3420", {"cyx"}),
        (f"{EXPORTED}/9987_Plate_3434", {"czyx"}),
        (f"{EXPORTED}/9987_Plate_3435", {"tcyx"}),
        (f"{DATABASE}/Projection-Mix", {"cyx", "czyx"}),
        (f"{DATABASE}/SingleChannel", {"cyx", "czyx"}),
        (f"{DATABASE}/1well-3C-2S-Zmix-T", {"tcyx"}),
    ],
)
def test_real_plates_keep_every_pixel_and_are_valid(shared, lake, client, name, axes):
    folder = shared(name)
    config = IngestConfig(missing="skip")
    ref = ingest_plate(folder, lake, client=client, config=config, experiment="real")
    index = read_layout(folder)
    path = Path(lake.root, ref.thing)
    group = zarr.open_group(path, mode="r")
    assert_pixels_are_the_files(group, index)
    assert isinstance(open_ome_zarr(group), HCS)
    arrays = [json.loads(p.read_text()) for p in path.glob("*/*/*/0/zarr.json")]
    assert {"".join(array["dimension_names"]) for array in arrays} == axes
    assert ref.counts["fields"] == len(index.fields)


def test_a_plate_is_published_whole(plate, lake, client, caplog):
    with caplog.at_level(logging.WARNING):
        ref = ingest_plate(plate, lake, client=client)
    assert (ref.experiment, ref.plate, ref.computed) == ("Batch1", "P1", True)
    assert ref.counts["files"] == 8
    assert (ref.counts["wells"], ref.counts["fields"], ref.counts["fields_dropped"]) == (2, 4, 0)
    assert ref.counts["wells_without_row"] == 2
    said = [line for line in caplog.messages if "platemap" in line]
    assert said == ["Batch1/P1: no platemap was given: its wells have no perturbation"]
    check_table(pq.read_table(lake.path(ledger(KEY))), LEDGER, where="ledger")
    check_table(pq.read_table(lake.path(qc_table(KEY))), QC, where="qc")
    assert pq.read_table(lake.path(platemap(KEY))).num_rows == 0
    group = open_plate(lake)
    assert_pixels_are_the_files(group, read_layout(plate))
    told = group.attrs["phenopipe"]
    assert (told["experiment"], told["plate"], told["channels"]) == ("Batch1", "P1", ["w1", "w2"])


def test_metadata_pass_the_specifications_own_schemas(shared, plate, lake, client):
    jsonschema = pytest.importorskip("jsonschema")
    referencing = pytest.importorskip("referencing")
    ingest_plate(plate, lake, client=client)
    folder = shared("plates/ngff/ngff-spec-0.4-0.5/0.5/schemas")
    schemas = [json.loads(path.read_text()) for path in sorted(folder.glob("*.schema"))]
    draft = pytest.importorskip("referencing.jsonschema").DRAFT202012
    resources = [(s["$id"], draft.create_resource(s)) for s in schemas]
    registry = referencing.Registry().with_resources(resources)
    group = open_plate(lake)
    for name, node in (("plate", group), ("well", group["B/02"]), ("image", group["B/02/1"])):
        schema = json.loads((folder / f"strict_{name}.schema").read_text())
        jsonschema.Draft202012Validator(schema, registry=registry).validate(dict(node.attrs))


def test_a_second_run_computes_and_touches_nothing(plate, lake, client):
    first = ingest_plate(plate, lake, client=client)
    before = stamp(lake)
    second = ingest_plate(plate, lake, client=client)
    assert second == first.model_copy(update={"computed": False})
    assert stamp(lake) == before


def test_the_same_bytes_come_from_any_number_of_workers(plate, tmp_path):
    digests = []
    for workers in (1, 3):
        lake = Lake(tmp_path / f"lake{workers}")
        with compute.client("threads", workers=workers) as client:
            ingest_plate(plate, lake, client=client)
        files = [p for p in sorted(Path(lake.root).rglob("*")) if p.is_file()]
        content = {p.relative_to(lake.root): digest_file(p) for p in files}
        digests.append({p: d for p, d in content.items() if not _is_manifest(p)})
    assert digests[0] == digests[1]


def _is_manifest(path: Path) -> bool:
    return path.name.endswith((".zarr.json", ".parquet.json", ".png.json", ".lock"))


def test_a_truncated_file_costs_its_site_only_and_is_named(plate, lake, client):
    bad = name_file(plate, "B02", 2, 1)
    bad.write_bytes(bad.read_bytes()[:1000])
    ref = ingest_plate(plate, lake, client=client)
    assert (ref.counts["fields"], ref.counts["fields_dropped"]) == (3, 1)
    rows = {row["path"]: row for row in read_rows(lake, ledger(KEY))}
    path = f"TimePoint_1/{bad.name}"
    assert (rows[path]["verdict"], rows[path]["destination"]) == ("truncated", "")
    sibling = rows["TimePoint_1/P1_B02_s2_w2.TIF"]
    assert sibling["verdict"] == "ok"
    assert sibling["reason"] == f"field dropped: {path} truncated"
    assert rows["TimePoint_1/P1_B02_s1_w1.TIF"]["destination"] == "B/02/1"
    group = open_plate(lake)
    assert [image["path"] for image in group["B/02"].attrs["ome"]["well"]["images"]] == ["1"]
    assert not Path(lake.path(plate_image(KEY)), "B/02/2").exists()
    assert open_ome_zarr(group)


def test_a_missing_channel_costs_the_site_or_is_filled_and_said(plate, tmp_path, client):
    name_file(plate, "B03", 1, 2).unlink()
    dropped = ingest_plate(plate, Lake(tmp_path / "a"), client=client)
    assert dropped.counts["fields_dropped"] == 1
    filled = Lake(tmp_path / "b")
    ref = ingest_plate(plate, filled, client=client, config=IngestConfig(missing="skip"))
    assert ref.counts["fields"] == 4
    array = open_plate(filled)["B/03/1/0"]
    assert array[0].any()
    assert not array[1].any()
    rows = [row for row in read_rows(filled, ledger(KEY)) if row["verdict"] == "missing"]
    told = [(row["well"], row["field"], row["channel"]) for row in rows if row["well"]]
    assert told == [("B03", 1, "w2")]
    assert any("filled with zeros" in row["reason"] for row in rows)


def test_an_odd_image_size_or_type_costs_its_site_even_if_it_comes_first(plate, lake, client):
    tifffile.imwrite(name_file(plate, "B02", 1, 1), np.ones((20, 20), "uint16"))
    tifffile.imwrite(name_file(plate, "B03", 2, 1), np.ones((40, 50), "uint8"))
    assert ingest_plate(plate, lake, client=client).counts["fields_dropped"] == 2
    verdicts = {row["path"]: row["verdict"] for row in read_rows(lake, ledger(KEY))}
    assert verdicts["TimePoint_1/P1_B02_s1_w1.TIF"] == "wrong_shape"
    assert verdicts["TimePoint_1/P1_B03_s2_w1.TIF"] == "wrong_dtype"


def test_strays_stand_in_the_ledger_and_change_no_image(plate, lake, client):
    key = ingest_plate(plate, lake, client=client).key
    (plate / "notes.txt").write_text("hello")
    ref = ingest_plate(plate, lake, client=client)
    assert (ref.key, ref.counts["files"]) == (key, 9)
    (stray,) = [row for row in read_rows(lake, ledger(KEY)) if row["path"] == "notes.txt"]
    assert (stray["verdict"], stray["size"]) == ("ignored", 5)


def test_a_plate_delivered_again_with_changes_is_refused_and_replaced_when_asked(
    plate, lake, client
):
    first = ingest_plate(plate, lake, client=client)
    before = stamp(lake)
    tifffile.imwrite(name_file(plate, "B02", 1, 1), np.full((40, 50), 7, "uint16"))
    with pytest.raises(InputError, match=r"1 file changed.*P1_B02_s1_w1\.TIF.*--replace"):
        ingest_plate(plate, lake, client=client)
    assert stamp(lake) == before
    second = ingest_plate(plate, lake, client=client, replace=True)
    assert second.computed
    assert second.key != first.key
    assert (open_plate(lake)["B/02/1/0"][0] == 7).all()


def test_another_plate_of_the_same_name_is_never_mixed_in(plate, lake, client, tmp_path):
    ingest_plate(plate, lake, client=client)
    other = tmp_path / "Batch2" / "P1"
    shutil.copytree(plate, other)
    tifffile.imwrite(name_file(other, "B02", 1, 1), np.full((40, 50), 7, "uint16"))
    with pytest.raises(InputError, match="Batch1/P1"):
        ingest_plate(other, lake, client=client, experiment="Batch1")
    assert_pixels_are_the_files(open_plate(lake), read_layout(plate))


def test_a_file_that_changes_while_it_is_read_stops_the_plate(plate, lake, client, monkeypatch):
    ingest_plate(plate, lake, client=client)
    monkeypatch.setattr(field_module, "read_image_bytes", lambda path: path.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"P1_B02_s1_w1\.TIF to stay as it was"):
        ingest_plate(plate, lake, client=client, config=IngestConfig(levels=1))
    assert lake.published("images") == []


def test_a_new_platemap_touches_the_platemap_only(plate, lake, client, tmp_path):
    ingest_plate(plate, lake, client=client)
    before = stamp(lake)
    table = tmp_path / "platemap.csv"
    table.write_text("plate,well,gene,zfpkm\nP1,b2,TP53,-4\nP1,B09,RB1,2\nP2,B03,MYC,1\n")
    ref = ingest_plate(plate, lake, client=client, platemap=table)
    changed = {path for path, seen in stamp(lake).items() if before.get(path) != seen}
    assert {p.relative_to(lake.root).parts[0] for p in changed} <= {"platemaps", ".locks"}
    assert (ref.computed, ref.counts["platemap_rows"]) == (True, 2)
    assert (ref.counts["wells_without_row"], ref.counts["rows_without_image"]) == (1, 1)
    rows = read_rows(lake, platemap(KEY))
    assert [(row["well"], row["gene"], row["zfpkm"]) for row in rows] == [
        ("B02", "TP53", -4.0),
        ("B09", "RB1", 2.0),
    ]


def test_new_thresholds_keep_the_images_key(plate, lake, client):
    first = ingest_plate(plate, lake, client=client)
    config = IngestConfig.model_validate({"qc": {"max_saturated": 0.5}})
    second = ingest_plate(plate, lake, client=client, config=config)
    assert (second.computed, second.key) == (True, first.key)


def test_a_failed_field_is_named_in_qc_and_ledger_and_kept_in_the_image(plate, lake, client):
    image = np.full((40, 50), 500, "uint16")
    image[:10] = 65535
    tifffile.imwrite(name_file(plate, "B03", 1, 2), image)
    assert ingest_plate(plate, lake, client=client).counts["fields_failed_qc"] == 1
    failed = {
        (r["well"], r["field"]) for r in read_rows(lake, qc_table(KEY)) if r["verdict"] == "fail"
    }
    assert failed == {("B03", 1)}
    rows = {row["path"]: row for row in read_rows(lake, ledger(KEY))}
    told = rows["TimePoint_1/P1_B03_s1_w1.TIF"]
    assert (told["verdict"], told["destination"]) == ("saturated", "B/03/1")


def test_a_plate_without_a_readable_field_is_refused(plate, lake, client):
    for path in plate.rglob("*.TIF"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="found none among 8 files"):
        ingest_plate(plate, lake, client=client)


def test_what_an_interrupted_run_left_is_written_anew(plate, lake, client):
    ingest_plate(plate, lake, client=client)
    Path(lake.root, plate_image(KEY).manifest).unlink()
    shutil.rmtree(Path(lake.path(plate_image(KEY)), "B/02"))
    Path(lake.path(plate_image(KEY)), "B/03/1/rubbish").write_text("x")
    ingest_plate(plate, lake, client=client)
    assert_pixels_are_the_files(open_plate(lake), read_layout(plate))
    assert not list(Path(lake.root).rglob("rubbish"))


def test_the_planted_faults_of_a_simulated_plate_are_found(tmp_path, lake, client):
    simulate = pytest.importorskip("phenopipe.simulate")
    design = simulate.ScreenDesign(size_px=96, sites=1)
    screen = simulate.simulate_screen(
        tmp_path / "screen", plates=1, wells=96, workers=1, design=design
    )
    (folder,) = screen.glob("*/*/TimePoint_1")
    ref = ingest_plate(folder.parent, lake, client=client, platemap=screen / "platemap.csv")
    planted: dict[tuple[str, int], str] = {}
    for line in (screen / "truth/bad_files.csv").read_text().splitlines()[1:]:
        _, _, well, field, _, kind = line.split(",")
        planted[well, int(field)] = kind
    key = PlateKey(ref.experiment, ref.plate)
    found = {
        (row["well"], row["field"]): row["reason"]
        for row in read_rows(lake, qc_table(key))
        if row["verdict"] == "fail"
    }
    by_qc = {k: kind for k, kind in planted.items() if kind in {"out_of_focus", "saturated"}}
    assert {k: found.get(k) for k in by_qc} == by_qc
    assert len(found) - len(by_qc) <= 0.01 * ref.counts["fields"]
    bad = {
        (row["well"], row["field"]): row["verdict"]
        for row in read_rows(lake, ledger(key))
        if row["verdict"] in {"missing", "truncated"} and row["well"]
    }
    assert bad == {k: kind for k, kind in planted.items() if k not in by_qc}


def test_stains_order_the_channel_axis_and_label_the_tables(plate, lake, client, tmp_path):
    path = tmp_path / "channels.csv"
    path.write_text("channel,stain\nw2,DNA\nw1,ER\n")
    ingest_plate(plate, lake, client=client, config=IngestConfig(channels=path))
    group = open_plate(lake)
    assert group.attrs["phenopipe"]["channels"] == ["DNA", "ER"]
    second = tifffile.imread(name_file(plate, "B03", 1, 2))
    np.testing.assert_array_equal(group["B/03/1/0"][0], second)
    assert {row["channel"] for row in read_rows(lake, qc_table(KEY))} == {"DNA", "ER"}


def test_a_stack_is_projected_or_one_step_is_picked(shared, tmp_path, client):
    folder = shared(f"{EXPORTED}/9987_Plate_3434")
    index = read_layout(folder)
    fields = {}
    for image in index.images:
        pixels = tifffile.imread(folder / image.path)
        fields.setdefault((image.field_key, image.channel), []).append(pixels)
    expected = {"max": lambda planes: np.max(planes, axis=0), 1: lambda planes: planes[1]}
    for z, reduce in expected.items():
        lake = Lake(tmp_path / str(z))
        ref = ingest_plate(
            folder, lake, client=client, config=IngestConfig(z=z, missing="skip"), experiment="E"
        )
        group = open_plate(lake, PlateKey(ref.experiment, ref.plate))
        for (key, channel), planes in fields.items():
            array = group[f"{key.well.row_name}/{key.well.column_name}/{key.field}/0"]
            at = list(index.channels).index(channel)
            np.testing.assert_array_equal(array[at], reduce(planes))


def test_one_time_point_is_picked(shared, lake, client):
    folder = shared(f"{EXPORTED}/9987_Plate_3435")
    config = IngestConfig(t=1, missing="skip")
    ref = ingest_plate(folder, lake, client=client, config=config, experiment="E")
    group = open_plate(lake, PlateKey(ref.experiment, ref.plate))
    index = read_layout(folder)
    (image, *_) = [image for image in index.images if image.t == 1]
    array = group[f"{image.well.row_name}/{image.well.column_name}/{image.field}/0"]
    assert array.metadata.dimension_names == ("c", "y", "x")
    at = list(index.channels).index(image.channel)
    np.testing.assert_array_equal(array[at], tifffile.imread(folder / image.path))
