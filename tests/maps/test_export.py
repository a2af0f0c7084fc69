"""Each file is read back by another library: anndata, networkx, pyarrow, pandas."""

import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phenopipe.errors import InputError
from phenopipe.lake import Lake
from phenopipe.maps.edges import EDGES, find_edges
from phenopipe.maps.export import export_map
from tests.maps.published import publish_map

ODD = 'drug <A> & "B", 5 µM'
NAMES = [*(f"GENE{i:02d}" for i in range(50)), ODD]
KINDS = ["gene"] * 50 + ["compound"]
NAMESPACE = {"g": "http://graphml.graphdrawing.org/xmlns"}


def draw():
    x = np.random.default_rng(4).normal(size=(51, 20)).astype(np.float32)
    x[:6] += 2
    x[50] = x[7] + 0.1
    return x


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    lake = Lake(tmp_path_factory.mktemp("export"))
    publish_map(lake, "demo", draw(), NAMES, kinds=KINDS)
    return lake


def edges_at(max_fdr):
    return pa.concat_tables(find_edges(draw(), NAMES, kinds=KINDS, max_fdr=max_fdr))


def test_parquet_and_csv_hold_the_edges(lake, tmp_path):
    counts = export_map(lake, "demo", tmp_path / "edges.parquet")
    table = pq.read_table(tmp_path / "edges.parquet")
    assert table == edges_at(0.05)
    assert counts == {"perturbations": 51, "edges": len(table)}
    export_map(lake, "demo", tmp_path / "edges.csv", max_fdr=0.3)
    frame = pd.read_csv(tmp_path / "edges.csv")
    expected = edges_at(0.3).to_pandas()
    assert list(frame.columns) == EDGES.names
    assert frame["neighbour"].tolist() == expected["neighbour"].tolist()
    np.testing.assert_allclose(frame["fdr"], expected["fdr"], rtol=1e-12)


def test_a_map_without_edges_is_a_file_without_rows(tmp_path):
    lake = Lake(tmp_path / "lake")
    x = np.random.default_rng(0).normal(size=(30, 20))
    publish_map(lake, "demo", x, NAMES[:30])
    for end in ("parquet", "csv", "graphml"):
        counts = export_map(lake, "demo", tmp_path / f"none.{end}", max_fdr=1e-9)
        assert counts["edges"] == 0
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0
    assert len(pd.read_csv(tmp_path / "none.csv")) == 0


def test_graphml_is_read_by_networkx(lake, tmp_path):
    networkx = pytest.importorskip("networkx")
    export_map(lake, "demo", tmp_path / "map.graphml")
    graph = networkx.read_graphml(tmp_path / "map.graphml")
    assert not graph.is_directed()
    names = networkx.get_node_attributes(graph, "name")
    assert sorted(names.values()) == sorted(NAMES)
    found = {
        (names[a], names[b]): (data["relation"], data["cosine"], data["fdr"])
        for a, b, data in graph.edges(data=True)
    }
    expected = {
        (row["perturbation"], row["neighbour"]): (row["relation"], row["cosine"], row["fdr"])
        for row in edges_at(0.05).to_pylist()
    }
    assert {frozenset(pair): data for pair, data in found.items()} == {
        frozenset(pair): data for pair, data in expected.items()
    }
    gene = next(data for _, data in graph.nodes(data=True) if data["name"] == "GENE03")
    assert (gene["gene"], gene["arm"], gene["n_wells"]) == ("GENE03", "17p", 8)
    assert gene["unexpressed"] is True
    # What is not known has no datum.
    assert not {"compound", "concentration_um"} & set(gene)


def test_graphml_is_xml_that_declares_each_datum(lake, tmp_path):
    export_map(lake, "demo", tmp_path / "map.graphml", max_fdr=0.5)
    root = ET.parse(tmp_path / "map.graphml").getroot()  # noqa: S314, our own
    keys = {key.get("id"): key.get("for") for key in root.findall("g:key", NAMESPACE)}
    for element in ("node", "edge"):
        for found in root.iterfind(f".//g:{element}", NAMESPACE):
            assert all(keys[data.get("key")] == element for data in found)
    ids = {node.get("id") for node in root.iterfind(".//g:node", NAMESPACE)}
    assert len(ids) == 51
    ends = [(e.get("source"), e.get("target")) for e in root.iterfind(".//g:edge", NAMESPACE)]
    assert len(ends) == len(set(ends)) == len(edges_at(0.5))
    assert {end for pair in ends for end in pair} <= ids


def test_anndata_reads_the_map(lake, tmp_path):
    anndata = pytest.importorskip("anndata")
    counts = export_map(lake, "demo", tmp_path / "map.h5ad")
    assert counts == {"perturbations": 51, "features": 20}
    data = anndata.read_h5ad(tmp_path / "map.h5ad")
    np.testing.assert_array_equal(data.X, draw())
    np.testing.assert_array_equal(data.layers["uncorrected"], draw() + np.float32(1))
    assert data.obs_names.tolist() == NAMES
    assert data.obs.loc[ODD, "kind"] == "compound"
    assert data.obs.loc["GENE03", ["arm", "n_wells", "unexpressed"]].tolist() == ["17p", 8, True]
    assert data.uns["map"]["align"] == "tvn"
    assert list(data.uns["map"]["experiments"]) == ["E1"]


@pytest.mark.parametrize(
    ("out", "asked", "said"),
    [
        ("map.xlsx", {}, r"\.h5ad, \.graphml, \.parquet, \.csv, found map.xlsx"),
        ("map.h5ad", {"max_fdr": 0.1}, "holds no pairs"),
        ("nowhere/map.csv", {}, "make it first"),
        ("map.csv", {"max_fdr": 2.0}, "at most 1, found 2.0"),
    ],
)
def test_what_cannot_be_exported_is_said_and_leaves_nothing(lake, tmp_path, out, asked, said):
    with pytest.raises(InputError, match=said):
        export_map(lake, "demo", tmp_path / out, **asked)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_never_overwritten(lake, tmp_path):
    (tmp_path / "map.csv").write_text("mine")
    with pytest.raises(InputError, match="not there yet"):
        export_map(lake, "demo", tmp_path / "map.csv")
    assert (tmp_path / "map.csv").read_text() == "mine"


def test_a_name_that_xml_cannot_hold_leaves_no_half_graph(tmp_path):
    lake = Lake(tmp_path / "lake")
    names = [*NAMES[:29], "bell\a"]
    publish_map(lake, "demo", np.random.default_rng(0).normal(size=(30, 20)), names)
    with pytest.raises(InputError, match=r"'\\x07' in 'bell\\x07'"):
        export_map(lake, "demo", tmp_path / "map.graphml")
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]
