"""What cannot be embedded is said in one sentence, and leaves nothing to take for a result."""

import json
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import onnxruntime
import pytest

from phenopipe import compute
from phenopipe.cli import main
from phenopipe.config import EmbedConfig
from phenopipe.embed import embed_plate
from phenopipe.embed.field import embed_crops
from phenopipe.embed.pieces import publish_piece
from phenopipe.errors import InputError
from phenopipe.lake import Recipe, Thing, embeddings, model_folder
from phenopipe.models.providers import PROVIDERS
from phenopipe.plates import FieldKey, PlateKey, Well
from tests.embed.graphs import FAILS, add_model, describe, make_model

KEY = PlateKey("HUVEC-1", "Plate3")
MODEL = Thing("models/sums/1")


def publish_unseen(lake, content, card):
    """Publish a model that the gate has not seen, as another program might."""
    thing = model_folder(card.name, card.version)
    with lake.writing(thing):
        with lake.draft(thing) as folder:
            folder.mkdir()
            (folder / "model.onnx").write_bytes(content)
            (folder / "card.json").write_text(card.model_dump_json())
        recipe = Recipe("models", 1, {}, card.model_dump(mode="json"), model_digest=card.digest)
        lake.publish(thing, recipe, counts={}, started=datetime.now(UTC))


def file_of(plate, name):
    return Path(plate.lake.root, MODEL.path, name)


def a_provider_that_is_not_here(plate):
    add_model(plate.lake)
    here = onnxruntime.get_available_providers()
    return next(name for name, full in PROVIDERS.items() if full not in here)


def a_card_that_was_changed(plate):
    add_model(plate.lake)
    path = file_of(plate, "card.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"channels": 3}))


def a_card_of_another_graph(plate):
    publish_unseen(plate.lake, *make_model(channel_features=(), output_width=2))


def a_channel_that_is_missing(plate):
    add_model(plate.lake, channels=("DNA", "ER", "Mito"))


def a_file_that_is_cut_short(plate):
    add_model(plate.lake)
    path = file_of(plate, "model.onnx")
    path.write_bytes(path.read_bytes()[:-9])


def a_file_of_something_else(plate):
    content = b"\x08\x09 no model"
    publish_unseen(plate.lake, content, describe(content))


def a_field_that_gives_nan(plate):
    add_model(plate.lake, FAILS)
    plate.bright = (("B11", 2),)
    plate.publish()


FORESEEN = [
    (a_provider_that_is_not_here, "expected one of the execution providers that are here"),
    (a_card_that_was_changed, "expected card.json of models/sums/1 as it was published"),
    (a_card_of_another_graph, "expected 2 values a crop from model sums as its card says, found 3"),
    (a_channel_that_is_missing, "found DNA, ER, AGP (Mito missing)"),
    (a_file_that_is_cut_short, "of models/sums/1, found"),
    (a_file_of_something_else, "expected an ONNX model in the bytes given"),
]
MET_ON_THE_WAY = [(a_field_that_gives_nan, "B11 field 2: expected finite values from the model")]


@pytest.fixture(params=[*FORESEEN, *MET_ON_THE_WAY], ids=lambda case: case[0].__name__)
def refused(request, plate):
    """A lake in which something is wrong: the provider to ask for, and what is said."""
    break_it, said = request.param
    plate.publish()
    return break_it(plate) or "cpu", said


def assert_nothing_is_left(lake):
    table = embeddings("sums", KEY)
    assert lake.manifest(table) is None
    assert not Path(lake.path(table)).exists()
    left = [path for kind in ("embeddings", "pieces") for path in Path(lake.root, kind).rglob("*")]
    assert [path for path in left if path.is_file()] == lake.leftovers() == []


def test_it_is_refused_and_nothing_is_published(refused, plate, client):
    provider, said = refused
    with pytest.raises(InputError) as error:
        embed_plate(
            plate.lake, KEY, model="sums", client=client, config=EmbedConfig(provider=provider)
        )
    assert said in str(error.value)
    assert_nothing_is_left(plate.lake)


def test_the_command_says_so_and_ends_with_2(refused, plate, monkeypatch, capsys):
    provider, said = refused
    command = f"phenopipe embed --root {plate.lake.root} --model sums --compute threads"
    monkeypatch.setattr(sys, "argv", [*command.split(), "--provider", provider])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert told.out == ""
    (sentence,) = [line for line in told.err.splitlines() if line.startswith("phenopipe: ")]
    assert said in sentence
    assert "Traceback" not in told.err
    assert_nothing_is_left(plate.lake)


def test_a_piece_that_is_being_published_as_another_fails_is_removed_too(plate, monkeypatch):
    """The worker's word of it comes when the run is over."""
    failed = threading.Event()

    def publish_late(lake, table, recipe, embedded, **facts):
        if embedded[0].field == FieldKey(Well.parse("B11"), 1):
            failed.wait(5)
        return publish_piece(lake, table, recipe, embedded, **facts)

    def embed_and_tell(crops, session, plan):
        try:
            return embed_crops(crops, session, plan)
        except InputError:
            failed.set()
            raise

    monkeypatch.setattr("phenopipe.embed.worker.publish_piece", publish_late)
    monkeypatch.setattr("phenopipe.embed.worker.embed_crops", embed_and_tell)
    a_field_that_gives_nan(plate)
    with compute.client("threads") as client, pytest.raises(InputError, match="finite"):
        embed_plate(plate.lake, KEY, model="sums", client=client)
    assert failed.is_set()
    assert_nothing_is_left(plate.lake)


def test_a_table_that_is_there_outlives_a_run_that_cannot_begin(plate, client):
    plate.publish()
    absent = a_provider_that_is_not_here(plate)
    embed_plate(plate.lake, KEY, model="sums", client=client)
    table = embeddings("sums", KEY)
    before, content = plate.lake.manifest(table), Path(plate.lake.path(table)).read_bytes()
    for config in (EmbedConfig(provider=absent), EmbedConfig(crop=128)):
        with pytest.raises(InputError):
            embed_plate(plate.lake, KEY, model="sums", client=client, config=config)
        assert plate.lake.manifest(table) == before
        assert Path(plate.lake.path(table)).read_bytes() == content


def test_what_a_refused_run_did_well_is_done_again_alike(plate, client):
    table = embeddings("sums", KEY)
    plate.publish()
    add_model(plate.lake, FAILS)
    embed_plate(plate.lake, KEY, model="sums", client=client)
    expected = plate.lake.require(table, remedy="").files
    plate.lake.clear(table)
    plate.bright = (("B11", 2),)
    plate.publish()
    with pytest.raises(InputError):
        embed_plate(plate.lake, KEY, model="sums", client=client)
    plate.bright = ()
    plate.publish()
    embed_plate(plate.lake, KEY, model="sums", client=client)
    assert plate.lake.require(table, remedy="").files == expected
