import pytest
import typer

from phenopipe.console import run_each, show_rows
from phenopipe.lake import SKIPPED, PlateRef


def ref(**counts):
    return PlateRef(
        experiment="E", plate="P", thing="embeddings/m/E/P", key="0", computed=True, counts=counts
    )


def test_a_plate_that_lacks_fields_is_told_and_the_command_exits_with_1(capsys):
    plates = {
        "E/P1": lambda on_progress: ref(crops=4, fields=2),  # noqa: ARG005 - a stage's signature
        "E/P2": lambda on_progress: ref(crops=2, fields=1, **{SKIPPED: 1}),  # noqa: ARG005
    }
    with pytest.raises(typer.Exit) as ended:
        run_each("embed", plates)
    assert ended.value.exit_code == 1
    told = capsys.readouterr().out
    assert "done" in told
    assert "incomplete" in told
    assert "1 fields skipped" in told


def test_a_cell_that_names_a_section_of_the_settings_is_printed_as_it_is(capsys):
    show_rows([{"what": "set [map]"}], title="map")
    assert "set [map]" in capsys.readouterr().out
