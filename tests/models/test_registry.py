import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Thing
from phenopipe.models import (
    add_model,
    build_classical,
    classical_card,
    ensure_classical,
    export_model,
    find_model,
    list_models,
    open_session,
    publish_model,
    read_folder,
)
from phenopipe.models.parity import draw_crops
from tests.models.graphs import card_of, projection

CROPS = np.random.default_rng(3).integers(100, 4000, (3, 2, 16, 16), np.uint16)


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
    with pytest.raises(InputError, match="crops of uint8 as its card says, found uint16"):
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


@pytest.fixture
def folder(tmp_path):
    """A ready model with a reference, as another program wrote it."""
    content = projection()
    crops = draw_crops(card_of(content), n=3, n_channels=2)
    folder = tmp_path / "ready"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(content)
    (folder / "card.json").write_text(card_of(content).model_dump_json())
    np.savez(folder / "reference.npz", crops=crops, embeddings=open_session(content).embed(crops))
    return folder


def test_a_ready_model_is_compared_with_its_reference(tmp_path, folder):
    card = add_model(Lake(tmp_path / "lake"), folder)
    assert card.parity["cosine_given"] > 0.99999
    assert card.providers == ("CPUExecutionProvider",)
    assert find_model(Lake(tmp_path / "lake"), "mine") == card
    manifest = Lake(tmp_path / "lake").manifest(Thing("models/mine/1"))
    assert set(manifest.files) == {"card.json", "model.onnx", "reference.npz"}


def test_a_model_that_the_gate_refuses_is_not_published(tmp_path, folder):
    crops = np.ones((1, 2, 16, 16), "uint16")
    np.savez(folder / "reference.npz", crops=crops, embeddings=np.ones((1, 8)))
    lake = Lake(tmp_path / "lake")
    with pytest.raises(InputError, match="to give what the original gives on given crops"):
        add_model(lake, folder)
    assert list_models(lake) == lake.data("models") == []


def test_a_model_goes_out_of_one_lake_into_another(tmp_path, root, folder):
    here, there = Lake(f"{root}/here"), Lake(tmp_path / "there")
    card = add_model(here, folder)
    export_model(here, "mine", tmp_path / "out")
    assert add_model(there, tmp_path / "out") == card
    with pytest.raises(InputError, match="expected a new or empty folder"):
        export_model(here, "mine", tmp_path / "out")


def test_a_model_measured_elsewhere_is_the_same_model(tmp_path, folder):
    lake = Lake(tmp_path / "lake")
    card = add_model(lake, folder)
    elsewhere = card.model_copy(update={"providers": ("CUDAExecutionProvider",), "parity": None})
    assert publish_model(lake, (folder / "model.onnx").read_bytes(), elsewhere) == card


def test_a_card_published_by_an_earlier_release_is_the_same_card(tmp_path):
    lake = Lake(tmp_path)
    card = ensure_classical(lake)
    path = tmp_path / "models/classical/1.json"
    manifest = json.loads(path.read_text())
    for later in ("max_channels", "missing", "pixel_size_um", "channel_width", "precision"):
        del manifest["parameters"][later]
    path.write_text(json.dumps(manifest))
    assert ensure_classical(lake) == card


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_float32_graph_is_the_original_of_its_conversions(tmp_path, folder, precision):
    (folder / "reference.npz").unlink()
    made = read_folder(folder, precision=precision, real=lambda _: {"plate": CROPS})
    assert (made.card.name, made.card.precision) == (f"mine-{precision}", precision)
    assert {one.what for one in made.references} == {"random_2", "plate"}
    lake = Lake(tmp_path / "lake")
    card = publish_model(lake, made.content, made.card, references=made.references)
    assert set(card.parity) == {
        f"{figure}_{what}" for figure in ("cosine", "max_abs") for what in ("random_2", "plate")
    }
    assert card.parity["cosine_plate"] < 1


def test_only_float32_is_converted(folder):
    half = read_folder(folder, precision="fp16", name="half", version="2")
    assert (half.card.name, half.card.version) == ("half", "2")
    (folder / "model.onnx").write_bytes(half.content)
    (folder / "card.json").write_text(half.card.model_dump_json())
    with pytest.raises(InputError, match="expected a model in fp32 to convert to int8, found half"):
        read_folder(folder, precision="int8")
