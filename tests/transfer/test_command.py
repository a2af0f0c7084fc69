"""`phenopipe transfer` as a user gives it."""

import json

import pytest
from typer.testing import CliRunner

from phenopipe.cli import app
from phenopipe.errors import InputError
from phenopipe.lake import Lake, plate_image
from tests.embed.conftest import PlateWriter
from tests.transfer.lakes import PLATES, fill, publish_plate, read_all


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def phenopipe(*arguments):
    done = run(*arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.fixture
def lakes(tmp_path):
    return fill(Lake(tmp_path / "a")), Lake(tmp_path / "b")


def test_what_is_sent_is_of_use_at_the_far_side(tmp_path, bucket_root):
    here, settings = tmp_path / "lake", tmp_path / "assay.toml"
    settings.write_text("[embed]\ncrop = 32\n")
    embed = ("embed", "--settings", settings, "--compute", "threads", "--root")
    PlateWriter(Lake(here)).publish()
    phenopipe(*embed, here)
    phenopipe("transfer", "--from", here, "--to", bucket_root)
    assert "every published file" in phenopipe("verify", "--root", bucket_root)
    told = json.loads(phenopipe("status", "--root", bucket_root, "--json"))
    assert {row["state"] for row in told["things"]} == {"published"}
    assert "published already" in phenopipe(*embed, bucket_root)
    phenopipe("transfer", "--from", bucket_root, "--to", tmp_path / "back")
    assert read_all(Lake(tmp_path / "back")) == read_all(Lake(here))


def test_a_dry_run_tells_what_there_is_to_send_and_writes_nothing(lakes, monkeypatch):
    source, target = lakes
    monkeypatch.setenv("COLUMNS", "200")
    publish_plate(target, PLATES[2], version=2)
    told = phenopipe(
        "transfer", "--from", source.root, "--to", target.root, "--dry-run", "--rate", "0.001"
    )
    before = read_all(target)
    rows = [line.split("│")[1:-1] for line in told.splitlines() if line.startswith("│")]
    cells = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    # Parcels, there already, refused, to send, files, GB, hours.
    assert cells["models"][:5] == ["1", "0", "0", "1", "2"]
    assert cells["HUVEC-1"][:5] == ["2", "0", "0", "2", "18"]
    assert cells["U2OS-1"][:5] == ["1", "0", "1", "0", "0"]
    assert cells["all"][:5] == ["4", "0", "1", "3", "20"]
    # 111 kB at 1 kB/s.
    assert cells["HUVEC-1"][6] == "0.03"
    assert "hours at 0.001 MB/s" in told
    assert read_all(target) == before


def test_only_what_is_chosen_is_sent(lakes):
    source, target = lakes
    options = ("--experiment", "HUVEC-*", "--plate", "P2")
    phenopipe("transfer", "--from", source.root, "--to", target.root, *options, "--rate", "100")
    assert target.published("images") == [plate_image(PLATES[1])]


def test_a_plate_that_is_refused_is_told_with_exit_code_1(lakes, monkeypatch):
    source, target = lakes
    monkeypatch.setenv("COLUMNS", "400")
    publish_plate(target, PLATES[0], version=2)
    done = run("transfer", "--from", source.root, "--to", target.root)
    assert done.exit_code == 1
    assert "expected platemaps/HUVEC-1/P1.parquet (and 3 more) in" in done.stdout
    assert "--replace" in done.stdout
    phenopipe("transfer", "--from", source.root, "--to", target.root, "--replace")
    assert read_all(target) == read_all(source)


@pytest.mark.parametrize("typo", [{"--from": "nowhere"}, {"--plate": "P9"}, {"--to": "a"}])
def test_a_slip_is_told(lakes, tmp_path, typo):
    options = {"--from": "a", "--to": "b"} | typo
    roots = {name: tmp_path / value for name, value in options.items() if name != "--plate"}
    done = run("transfer", *[part for option in (options | roots).items() for part in option])
    assert isinstance(done.exception, InputError)
    assert read_all(lakes[1]) == {}
