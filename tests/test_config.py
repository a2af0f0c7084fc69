from pathlib import Path

import pytest

from phenopipe.config import EmbedConfig, GeneFiles, IngestConfig, override, read_settings
from phenopipe.errors import InputError


def test_an_assays_settings_are_read_from_a_file(tmp_path):
    path = tmp_path / "assay.toml"
    path.write_text(
        '[ingest]\nz = "max"\nchannels = "stains.csv"\n[ingest.qc]\nmax_saturated = 0.1\n'
        "[embed]\ninclude_failed = true\n"
    )
    settings = read_settings(path)
    assert (settings.ingest.z, settings.ingest.qc.max_saturated) == ("max", 0.1)
    assert settings.ingest.channels == tmp_path / "stains.csv"
    assert settings.embed == EmbedConfig(include_failed=True)
    assert settings.map.align == "tvn"


def test_paths_in_settings_are_relative_to_their_file(tmp_path):
    path = tmp_path / "assay.toml"
    path.write_text('[map.genes]\npositions = "p.tsv"\ncentromeres = "/data/c.tsv"\n')
    genes = read_settings(path).map.genes
    assert (genes.positions, genes.centromeres) == (tmp_path / "p.tsv", Path("/data/c.tsv"))
    assert genes.expression is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[ingest.qc]\nmax_saturatd = 1", r"ingest\.qc\.max_saturatd = 1 \(Extra inputs"),
        ("[ingest.qc]\nmax_saturated = 7", r"ingest\.qc\.max_saturated = 7 \(.*less than"),
        ('[map.genes]\npositions = "p"', r"found map\.genes: positions without centromeres: give"),
        ("[ingest", "expected settings as TOML"),
    ],
)
def test_a_name_or_value_that_is_not_known_is_told(tmp_path, content, message):
    path = tmp_path / "assay.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_settings(path)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="check the path"):
        read_settings(tmp_path / "assay.toml")


def test_arguments_go_before_settings():
    config = override(IngestConfig(levels=3), layout="rxrx", z=2, levels=None)
    assert (config.layout, config.z, config.levels) == ("rxrx", 2, 3)
    with pytest.raises(InputError, match=r"z.* = 'middle'"):
        override(IngestConfig(), z="middle")
    with pytest.raises(InputError, match="arguments, found withdrawn without symbols: give both"):
        override(GeneFiles(), withdrawn="withdrawn.txt")
