import numpy as np
import pytest

from phenopipe.errors import InputError
from phenopipe.lake import Lake
from phenopipe.models import ensure_classical, open_session, publish_model, verify_model
from phenopipe.models.parity import Reference, draw_crops
from tests.models.graphs import card_of, projection


@pytest.fixture
def lake(tmp_path):
    lake, content = Lake(tmp_path), projection()
    crops = draw_crops(card_of(content), n_channels=2)
    reference = Reference("random", crops, open_session(content).embed(crops))
    publish_model(lake, content, card_of(content), references=[reference])
    return lake


def tell(lake, name="mine", **options):
    return {
        check.check: (check.outcome, check.what) for check in verify_model(lake, name, **options)
    }


def test_what_was_published_passes(lake):
    told = tell(lake)
    assert [outcome for outcome, _ in told.values()] == ["ok", "ok", "ok"]
    assert told["cpu"][1].startswith("CPUExecutionProvider: cosine 1.000000")


def test_a_model_without_an_original_says_so(lake):
    ensure_classical(lake)
    assert tell(lake, "classical")["cpu"][1].endswith("no original to compare with")


def test_a_damaged_graph_is_told(lake, tmp_path):
    path = tmp_path / "models/mine/1/model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    told = tell(lake)
    assert told["files"][0] == told["digest"][0] == "failed"
    assert "model.onnx changed or damaged" in told["files"][1]
    assert "cpu" not in told


def test_a_reference_that_the_graph_no_longer_gives_is_told(lake, tmp_path):
    path = tmp_path / "models/mine/1/reference.npz"
    arrays = dict(np.load(path))
    arrays["embeddings_random"] += 1
    np.savez(path, **arrays)
    told = tell(lake)
    assert told["files"][0] == told["cpu"][0] == "failed"
    assert "to give what the original gives" in told["cpu"][1]


def test_what_is_not_there_is_refused(lake):
    with pytest.raises(InputError, match="expected a model vit"):
        verify_model(lake, "vit")
    with pytest.raises(InputError, match="found 'tpu'"):
        verify_model(lake, "mine", providers=["cpu", "tpu"])
