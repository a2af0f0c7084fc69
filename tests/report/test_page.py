import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr

from phenopipe import schema
from phenopipe.errors import InputError
from phenopipe.lake import Recipe, map_part, qc_table
from phenopipe.report import write_report
from tests.report.conftest import BAD, CHANNELS, HOSTILE, PLATES, STARTED, put_table


class Reader(HTMLParser):
    """Collect a page's tags and the text outside of scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self._open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if not self._open or self._open[-1] not in ("script", "style"):
            self.text.append(data)


def read_page(lake):
    return lake.read_bytes(map_part("demo", "report.html")).decode()


def read_benchmark(lake):
    return pq.read_table(lake.path(map_part("demo", "benchmark.parquet"))).to_pandas()


@pytest.fixture(scope="module")
def page(shared_lake):
    write_report(shared_lake, "demo")
    return read_page(shared_lake)


def test_the_page_loads_nothing_from_elsewhere(page):
    loads = [
        value
        for _, attrs in Reader(page).tags
        for name, value in attrs.items()
        if name in ("src", "href", "xlink:href", "action", "data", "srcset")
    ]

    assert loads
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in loads)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_the_page_forbids_all_scripts_but_its_own(page):
    policy = next(a["content"] for t, a in Reader(page).tags if "http-equiv" in a and t == "meta")

    assert policy.startswith("default-src 'none'; img-src data:;")
    assert re.search(r"script-src 'sha256-[\w+/]{43}='$", policy)


def test_headline_numbers_are_those_of_the_benchmark(shared_lake, page):
    table = read_benchmark(shared_lake)
    recall = table.query("metric == 'relationship_recall' and correction == 'arms'")
    most = recall.loc[recall["n"].idxmax()]
    genome = table.query("source == 'genome'").set_index("correction")["value"]
    text = " ".join(Reader(page).text)

    assert f"recall {most.value:.2f} [{most.low:.2f}, {most.high:.2f}] after correction" in text
    assert f"{most.value / 0.1:.1f}\N{MULTIPLICATION SIGN} chance (0.10), on {most.source}" in text
    assert f"{genome['none']:.2f} → {genome['arms']:.2f}" in text
    assert "shuffled arms: 0.48\N{EN DASH}0.52" in text


def test_counts_are_those_of_the_plates(page):
    wells = 16 * 22 * len(PLATES)
    text = re.sub(r"\s+", " ", " ".join(Reader(page).text))

    assert f"{wells} wells" in text
    assert f"{2 * wells:,} fields, {2 * wells - len(BAD):,} kept" in text
    assert f"{3 * wells:,} crops" in text
    assert "153 perturbations" in text


def test_each_bad_file_is_named_with_its_reason(page):
    text = " ".join(Reader(page).text)
    for key, well, field, channel, verdict, reason in BAD:
        for number, name in enumerate(CHANNELS, start=1):
            if channel in (None, name):
                assert f"TimePoint_1/{key.plate}_{well}_s{field}_w{number}.TIF" in text
        assert verdict in text
        assert reason in text


def test_a_lost_well_is_marked_on_its_plate(page):
    titles = re.findall(r'<g class="(\w+)"><title>([A-P]\d\d) (\w+): ([^<]*)</title>', page)

    states = {well: state for state, well, _, _ in titles}
    assert states == {
        "C05": "lost", "K11": "part", "D09": "part", "H20": "part", "F07": "warn"
    }  # fmt: skip
    assert ("lost", "C05", "lost", "field 1: truncated; field 2: truncated") in titles


def test_the_uncorrected_arm_is_marked_with_the_reason(page):
    text = " ".join(Reader(page).text)

    assert "10p†" in text
    assert "was left uncorrected: 9 unexpressed genes, more than 20 needed" in text


def test_names_from_metadata_are_escaped(page):
    assert HOSTILE not in page
    assert not any(tag == "img" or "onerror" in attrs for tag, attrs in Reader(page).tags)
    assert HOSTILE in " ".join(Reader(page).text)


def test_the_search_box_knows_each_perturbation_and_its_nearest(shared_lake, page):
    packed = json.loads(re.search(r'id="neighbours">(.*?)</script>', page)[1])
    path = shared_lake.path(map_part("demo", "neighbours.parquet"))
    table = pq.read_table(path).to_pandas()

    assert len(packed["names"]) == 153
    for name, near in zip(packed["names"], packed["near"], strict=True):
        alike = table[(table.perturbation == name) & (table.side == "alike")]
        wanted = alike.sort_values("rank").neighbour.head(10)
        assert [packed["names"][index] for index, _, _ in near] == wanted.tolist()


def test_the_strongest_pairs_stand_in_the_page_without_scripts(shared_lake, page):
    with xr.open_zarr(shared_lake.path(map_part("demo", "map.zarr")), consolidated=False) as opened:
        rows = opened["embedding"].to_numpy()
        names = opened["perturbation"].to_numpy().tolist()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    alike = np.triu(unit @ unit.T, 1)
    first, second = np.unravel_index(alike.argmax(), alike.shape)
    text = " ".join(Reader(page).text)

    pair = " and ".join(sorted((names[first], names[second])))
    assert f"The most alike pair is {pair}, cosine {alike.max():.3f}." in text
    assert page.count('<td class="name">') >= 60


def test_the_same_lake_gives_the_same_bytes(make_lake):
    pages = []
    for name in ("one", "two"):
        lake = make_lake(name)
        write_report(lake, "demo")
        pages.append(lake.read_bytes(map_part("demo", "report.html")))

    assert pages[0] == pages[1]


def test_a_second_run_returns_at_once(shared_lake):
    first = write_report(shared_lake, "demo")
    again = write_report(shared_lake, "demo")

    assert not again.computed
    assert (again.key, again.counts) == (first.key, first.counts)


def test_progress_counts_plates(lake):
    seen = []
    write_report(lake, "demo", on_progress=lambda done, total: seen.append((done, total)))

    assert seen == [(1, 2), (2, 2)]


def test_a_map_without_a_benchmark_says_which_command_makes_it(lake):
    lake.clear(map_part("demo", "benchmark.parquet"))

    with pytest.raises(InputError, match=r"benchmark.parquet .*`phenopipe benchmark .* --map demo"):
        write_report(lake, "demo")


def test_a_benchmark_of_an_older_map_is_refused(lake):
    thing = map_part("demo", "map.zarr")
    recipe = Recipe("map", 1, lake.manifest(thing).inputs, {"align": "none"})
    lake.publish(thing, recipe, counts={}, started=STARTED)

    with pytest.raises(
        InputError, match=r"map.zarr as .* was made from it, found it published anew"
    ):
        write_report(lake, "demo")


def test_qc_newer_than_the_embeddings_is_refused(lake):
    thing = qc_table(PLATES[0])
    frame = pq.read_table(lake.path(thing)).to_pandas()
    frame = frame.astype({"cells": "Int32"})
    put_table(lake, thing, frame, schema.QC, again=True)

    with pytest.raises(InputError, match="phenopipe embed"):
        write_report(lake, "demo")


def test_an_uncorrected_map_shows_one_side(lake):
    thing = map_part("demo", "benchmark.parquet")
    inputs = lake.manifest(thing).inputs
    table = read_benchmark(lake).query("correction == 'none'")
    table.loc[table["source"].eq("corum"), ["value", "low", "high"]] = np.nan
    put_table(lake, thing, table, schema.BENCHMARK, inputs=inputs)
    write_report(lake, "demo")
    text = " ".join(Reader(read_page(lake)).text)

    best = table.query("source == 'pathways'").iloc[0]
    spelt = f"{best.value:.2f} [{best.low:.2f}, {best.high:.2f}]"
    assert f"pathways: recall {spelt} without correction" in text
    assert "corum: not measured." in text
    assert "no known pair is in the map" in text
