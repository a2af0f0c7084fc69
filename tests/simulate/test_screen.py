import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from phenopipe.errors import InputError
from phenopipe.plates import Well
from phenopipe.simulate import CHANNELS, Nuisances, ScreenDesign, simulate_screen

SMALL = ScreenDesign(sites=2, size_px=64)
TINY = ScreenDesign(sites=1, size_px=64)


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated") / "screen"
    return simulate_screen(folder, plates=2, wells=96, design=SMALL, workers=1)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _bad(screen: Path, kind: str) -> list[Path]:
    rows = _read(screen / "truth" / "bad_files.csv")
    return [screen / row["path"] for row in rows if row["kind"] == kind]


def _digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_every_file_is_there_but_the_missing(screen):
    expected = {
        screen / e / p / "TimePoint_1" / f"{p}_{Well(row, column)}_s{site}_w{wave}.TIF"
        for e, p in [("Batch1", "Plate1"), ("Batch2", "Plate2")]
        for row in range(8)
        for column in range(12)
        for site in (1, 2)
        for wave in range(1, 7)
    }
    assert set(screen.rglob("*.TIF")) == expected - set(_bad(screen, "missing"))
    assert len(_bad(screen, "missing")) == 2 * (6 + 1)


def test_truncated_files_cannot_be_read(screen):
    for path in _bad(screen, "truncated"):
        with pytest.raises(Exception):  # noqa: B017, PT011 - tifffile raises many kinds
            tifffile.imread(path)


def test_saturated_fields_lie_at_the_maximum(screen):
    paths = _bad(screen, "saturated")
    assert len(paths) == 2 * 3 * 6
    assert np.mean([(tifffile.imread(path) == 65535).mean() > 0.05 for path in paths]) > 0.9


def test_out_of_focus_fields_lack_detail(screen):
    def detail(path: Path) -> float:
        pixels = tifffile.imread(path).astype(float)
        return (np.diff(pixels) ** 2).mean() / pixels.var()

    dna = [path for path in _bad(screen, "out_of_focus") if path.stem.endswith("_w1")]
    bad = {row["path"] for row in _read(screen / "truth" / "bad_files.csv")}
    good = [p for p in screen.rglob("*_w1.TIF") if p.relative_to(screen).as_posix() not in bad]
    assert len(dna) == 2 * 4
    assert max(map(detail, dna)) < np.median([detail(path) for path in good])


def test_good_images_are_16_bit_and_say_their_pixel_size(screen):
    with tifffile.TiffFile(next((screen / "Batch1").rglob("*_w3.TIF"))) as tiff:
        page = tiff.pages[0]
        assert (page.shape, page.dtype, page.compression) == ((64, 64), np.uint16, 1)
        assert 10_000 / page.get_resolution("CENTIMETER")[0] == pytest.approx(1.3)


def test_the_platemap_has_every_well_once(screen):
    rows = _read(screen / "platemap.csv")
    places = [(row["experiment"], row["plate"], row["well"]) for row in rows]
    assert len(places) == len(set(places)) == 2 * 96
    first, second = rows[:96], rows[96:]
    assert sorted(r["guide"] for r in first) == sorted(r["guide"] for r in second)
    assert [r["guide"] for r in first] != [r["guide"] for r in second]


def test_expression_says_which_genes_are_silent(screen):
    genes = _read(screen / "truth" / "genes.csv")
    assert all((float(g["zfpkm"]) < -3) == (g["unexpressed"] == "true") for g in genes)
    zfpkm = {g["gene"]: g["zfpkm"] for g in genes}
    rows = [row for row in _read(screen / "platemap.csv") if row["gene"] in zfpkm]
    assert all(row["zfpkm"] == zfpkm[row["gene"]] for row in rows)


def test_annotations_pair_the_genes_of_a_pathway(screen):
    pathway = {g["gene"]: g["pathway"] for g in _read(screen / "truth" / "genes.csv")}
    pairs = _read(screen / "truth" / "annotations" / "pathways.txt")
    assert len(pairs) == 4 * 15
    assert all(pathway[p["entity1"]] == pathway[p["entity2"]] != "" for p in pairs)


def test_the_plan_names_wells_sites_and_waves(screen):
    lines = (screen / "Batch1" / "Plate1" / "Plate1.HTD").read_bytes().decode("latin-1")
    rows = {r[0]: r[1:] for r in csv.reader(lines.split("\r\n"), skipinitialspace=True) if r}
    assert (rows["XWells"], rows["YWells"]) == (["12"], ["8"])
    assert rows["WellsSelection8"] == ["TRUE"] * 12
    assert rows["SiteSelection1"] == ["TRUE", "TRUE"]
    assert [rows[f"WaveName{wave}"][0] for wave in range(1, 7)] == list(CHANNELS)


def test_same_seed_same_bytes_whatever_the_workers(tmp_path):
    one, two, other = (
        simulate_screen(
            tmp_path / f"{name}", plates=1, wells=96, seed=seed, design=TINY, workers=workers
        )
        for name, seed, workers in [("one", 1, 1), ("two", 1, 2), ("other", 2, 1)]
    )
    assert _digest(one) == _digest(two)
    first = "Batch1/Plate1/TimePoint_1/Plate1_A01_s1_w1.TIF"
    assert _digest(one)[first] != _digest(other)[first]


def test_a_screen_that_was_cut_short_is_drawn_anew(tmp_path):
    options = {"plates": 1, "wells": 96, "design": TINY, "workers": 1}
    whole = simulate_screen(tmp_path / "whole", **options)

    def stop(done, _total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_screen(tmp_path / "cut", on_progress=stop, **options, seed=7)
    assert not (tmp_path / "cut" / "truth" / "truth.json").exists()
    assert _digest(simulate_screen(tmp_path / "cut", **options)) == _digest(whole)


def test_a_complete_screen_is_left_and_another_refused(screen):
    before = {path: path.stat().st_mtime_ns for path in screen.rglob("*")}
    simulate_screen(screen, plates=2, wells=96, design=SMALL)
    assert {path: path.stat().st_mtime_ns for path in screen.rglob("*")} == before
    with pytest.raises(InputError, match="another seed"):
        simulate_screen(screen, plates=2, wells=96, design=SMALL, seed=1)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="expected an empty folder"):
        simulate_screen(tmp_path, plates=1, wells=96)
    with pytest.raises(InputError, match="expected an empty folder"):
        simulate_screen(tmp_path / "thesis.txt", plates=1, wells=96)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "options", [{"layout": "operetta"}, {"wells": 24}, {"plates": 0}, {"seed": -1}]
)
def test_arguments_out_of_range_are_refused(tmp_path, options):
    with pytest.raises(InputError, match="expected"):
        simulate_screen(tmp_path / "none", **options)
    assert not (tmp_path / "none").exists()


def test_no_nuisances_no_bad_files(tmp_path):
    clean = Nuisances(out_of_focus=0, saturated=0, missing_sites=0, missing_files=0, truncated=0)
    folder = simulate_screen(
        tmp_path / "clean", plates=1, wells=96, design=TINY, nuisances=clean, workers=1
    )
    assert _read(folder / "truth" / "bad_files.csv") == []
    truth = json.loads((folder / "truth" / "truth.json").read_text())
    assert truth["nuisances"]["truncated"] == 0
    assert len(list(folder.rglob("*.TIF"))) == 96 * 6
