import json

import pytest

from phenopipe.benchmark import Score
from phenopipe.benchmark.metric import add_entry_points
from phenopipe.benchmark.proximity import ProximityBias
from phenopipe.benchmark.recall import RelationshipRecall
from phenopipe.errors import InputError
from phenopipe.schema import BENCHMARK

OWN = """
class MeanLength:
    name = "mean_length"
    version = 1

    def score(self, data, config):
        return []
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package whose entry point names an object."""

    def add(value):
        (tmp_path / "own_metrics.py").write_text(OWN)
        folder = tmp_path / "own_metrics-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: own-metrics\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[phenopipe.metrics]\nown = {value}\n")
        monkeypatch.syspath_prepend(tmp_path)

    return add


def test_a_score_is_a_row_of_the_table():
    row = Score("CORUM", "arms", 0.3, n=7, parameters={"b": 1, "a": [2]}).row("own")
    assert set(row) == set(BENCHMARK.names)
    assert json.loads(row["parameters"]) == {"a": [2], "b": 1}


def test_metrics_come_by_name():
    names = [metric.name for metric in add_entry_points([RelationshipRecall(), ProximityBias()])]
    assert names == ["proximity_bias", "relationship_recall"]


def test_an_installed_package_adds_a_metric(install):
    install("own_metrics:MeanLength")
    names = [metric.name for metric in add_entry_points([ProximityBias()])]
    assert names == ["mean_length", "proximity_bias"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nowhere.at_all:Metric", "nowhere.at_all.*mend or uninstall its package"),
        ("builtins:dict", "to give a metric with a name and a version"),
        ("phenopipe.benchmark.proximity:ProximityBias", "one metric called proximity_bias"),
    ],
)
def test_metrics_that_cannot_be_used(install, value, message):
    install(value)
    with pytest.raises(InputError, match=message):
        add_entry_points([ProximityBias()])
