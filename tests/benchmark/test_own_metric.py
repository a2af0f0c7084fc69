"""The how-to's metric runs as it stands, as an installed package."""

import os
import subprocess
import sys
import tomllib

import numpy as np
import pyarrow.parquet as pq
import pytest

from phenopipe.benchmark.pins import PUBLISHED
from phenopipe.lake import Lake, map_part
from phenopipe.stats import unit_rows
from tests.benchmark.lake import publish_map, write_annotations
from tests.pages import install_package, read_block

HOW_TO = "own-metric.md"
GENES = [f"G{i:02d}{twin}" for i in range(30) for twin in ("_a", "_b")]
RUN = """
import sys
from pathlib import Path
from phenopipe.benchmark import benchmark_map, compare_maps
from phenopipe.config import read_settings
from phenopipe.lake import Lake

lake, given = Lake(sys.argv[1]), {"annotations": Path(sys.argv[2])}
config = read_settings(sys.argv[3]).benchmark.model_copy(
    update={"n_bootstrap": 100, "n_shuffles": 20, "n_null": 100, "pins": {}}
)
for name in ("first", "second"):
    benchmark_map(lake, name=name, config=config, **given)
compare_maps(lake, name="first", against="second", config=config, **given)
"""


@pytest.fixture
def site(tmp_path):
    """Install the how-to's package as pip does: its module, and its metadata beside it."""
    return install_package(tmp_path / "site", HOW_TO, module="twins")


def test_the_how_tos_metric_is_scored_and_compared(site, tmp_path):
    lake = Lake(tmp_path / "lake")
    dataset = publish_map(lake, name="first", genes=GENES)
    publish_map(lake, name="second", genes=GENES, noise=2.0)
    settings = tmp_path / "settings.toml"
    settings.write_text(read_block(HOW_TO, "ini"))
    annotations = write_annotations(tmp_path / "annotations")
    done = subprocess.run(
        [sys.executable, "-c", RUN, lake.root, annotations, settings],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(site)},
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(lake.path(map_part("first", "benchmark.parquet"))).to_pandas()
    rows = rows[rows.metric == "twins"].set_index("correction")
    assert rows.index.tolist() == ["arms", "none"]
    unit = unit_rows(dataset["embedding"].to_numpy())
    assert rows.value["arms"] == pytest.approx((unit[::2] * unit[1::2]).sum(axis=1).mean())
    assert rows.low["arms"] < rows.value["arms"] < rows.high["arms"]
    assert rows.n["arms"] == 30
    table = pq.read_table(lake.path(map_part("first", "against-second.parquet"))).to_pandas()
    compared = table[table.metric == "twins"]
    assert np.isfinite(compared[["low", "high", "p_value", "p_signs"]].to_numpy()).all()


def test_the_how_tos_digest_is_that_of_the_published_file():
    pin = tomllib.loads(read_block(HOW_TO, "ini"))["benchmark"]["pins"]
    assert {digest: name for name, digest in pin.items()}.items() <= PUBLISHED.items()
