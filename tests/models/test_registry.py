import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Thing
from phenopipe.models import (
    add_model,
    build_classical,
    classical_card,
    ensure_classical,
    find_model,
    list_models,
    publish_model,
)


def make_version(version, name="mine"):
    model = build_classical()
    model.doc_string = version
    content = model.SerializeToString()
    digest = hashlib.sha256(content).hexdigest()
    changes = {"name": name, "version": version, "digest": digest}
    return content, classical_card().model_copy(update=changes)


def test_classical_is_published_on_first_use_only(tmp_path):
    lake = Lake(tmp_path)
    card = ensure_classical(lake)
    first = lake.manifest(Thing("models/classical/1"))
    assert ensure_classical(lake) == card
    assert lake.manifest(Thing("models/classical/1")) == first
    assert first.files.keys() == {"card.json", "model.onnx"}
    assert find_model(lake, "classical") == card
    content = lake.read_bytes(Thing("models/classical/1"), "model.onnx")
    assert content == build_classical().SerializeToString()


def test_plates_side_by_side_may_publish_it_at_once(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        cards = list(pool.map(lambda _: ensure_classical(Lake(tmp_path)), range(4)))
    assert list_models(Lake(tmp_path)) == [cards[0]]


def test_the_newest_version_is_found(tmp_path):
    lake = Lake(tmp_path)
    for version in ("1.9", "1.10", "1.2"):
        publish_model(lake, *make_version(version))
    assert find_model(lake, "mine").version == "1.10"
    assert [card.version for card in list_models(lake)] == ["1.2", "1.9", "1.10"]


def test_a_version_never_changes(tmp_path):
    lake = Lake(tmp_path)
    publish_model(lake, *make_version("1"))
    content, card = make_version("2")
    with pytest.raises(InputError, match="expected a new version of model mine, found 1"):
        publish_model(lake, content, card.model_copy(update={"version": "1"}))


def test_a_folder_of_a_model_is_added(tmp_path):
    content, card = make_version("3")
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"expected card\.json in"):
        add_model(Lake(tmp_path / "lake"), tmp_path)
    (tmp_path / "card.json").write_text(card.model_dump_json())
    add_model(Lake(tmp_path / "lake"), tmp_path)
    assert find_model(Lake(tmp_path / "lake"), "mine") == card


def test_a_card_of_other_bytes_is_refused(tmp_path):
    content, _ = make_version("1")
    with pytest.raises(InputError, match="the card is of another file"):
        publish_model(Lake(tmp_path), content, classical_card())
    assert list_models(Lake(tmp_path)) == []


def test_a_card_of_another_dtype_is_refused(tmp_path):
    content, card = make_version("1")
    with pytest.raises(InputError, match="to take uint8 as its card says, found uint16"):
        publish_model(Lake(tmp_path), content, card.model_copy(update={"dtype": "uint8"}))


def test_a_damaged_card_is_named(tmp_path):
    lake = Lake(tmp_path)
    ensure_classical(lake)
    (tmp_path / "models/classical/1/card.json").write_text('{"name": "classical"}')
    with pytest.raises(InputError, match=r"card in .*, found version: Field required"):
        list_models(lake)


def test_an_unknown_model_is_named_with_those_there_are(tmp_path):
    ensure_classical(Lake(tmp_path))
    with pytest.raises(InputError, match=r"expected a model vit in .*, found classical"):
        find_model(Lake(tmp_path), "vit")
