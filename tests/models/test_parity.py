import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phenopipe.errors import InputError
from phenopipe.models import build_classical, classical_card, open_session
from phenopipe.models.parity import (
    Parity,
    Reference,
    check_parity,
    draw_all,
    draw_crops,
    read_references,
    worst_parity,
    write_references,
)
from tests.models.graphs import card_of, parse_graph, projection

CONTENT = projection()
FLATTEN = "counts = Cast<to = 1>(crops) embedding = Flatten(counts)"


def refer(content, crops=None, *, what="random"):
    crops = draw_crops(card_of(content), n_channels=2) if crops is None else crops
    return Reference(what, crops, open_session(content).embed(crops))


@given(
    st.tuples(st.floats(0.01, 10), st.floats(-10, 10)),
    st.floats(0.1, 10),
    st.floats(0, np.pi),
)
def test_parity_is_the_cosine_and_the_largest_difference(vector, scale, angle):
    sin, cos = np.sin(angle), np.cos(angle)
    turned = scale * np.array([[cos, -sin], [sin, cos]]) @ vector
    parity = Parity.of(turned[None], np.array([vector]))
    assert parity.cosine == pytest.approx(cos, abs=1e-9)
    assert parity.max_abs == pytest.approx(np.abs(turned - vector).max())


def test_a_row_of_zeros_is_like_another_and_like_nothing_else():
    zeros, ones = np.zeros((1, 3)), np.ones((1, 3))
    assert Parity.of(zeros, zeros).cosine == 1
    assert Parity.of(zeros, ones).cosine == 0


def test_a_graph_that_gives_what_the_original_gives_passes():
    provider, figures = check_parity(CONTENT, card_of(CONTENT), [refer(CONTENT)])
    assert provider == "CPUExecutionProvider"
    assert figures["cosine_random"] == pytest.approx(1)
    assert figures["max_abs_random"] < 1e-6


def test_a_graph_that_differs_is_refused_with_the_figures():
    other = projection(seed=1)
    with pytest.raises(InputError, match=r"cosine at least 0\.99999 .* found cosine -?0\.\d{6}"):
        check_parity(CONTENT, card_of(CONTENT), [refer(other, what="plate")])


@pytest.mark.parametrize(("precision", "passes"), [("fp32", False), ("fp16", True)])
def test_a_coarser_precision_may_differ_by_more(precision, passes):
    exact = refer(CONTENT)
    noise = np.random.default_rng(0).normal(0, 1e-3, exact.embeddings.shape)
    near = Reference("random", exact.crops, (exact.embeddings + noise).astype(np.float32))
    card = card_of(CONTENT, precision=precision)
    if passes:
        assert check_parity(CONTENT, card, [near])[1]["cosine_random"] > 0.9999
        return
    with pytest.raises(InputError, match=r"mine \(fp32\) to give what the original gives"):
        check_parity(CONTENT, card, [near])


def test_large_embeddings_are_measured_by_their_own_size():
    content = parse_graph(
        f"{FLATTEN.replace('embedding', 'flat')} embedding = Mul(flat, scale)", scale=np.float32(1)
    )
    card = card_of(content, output_width=512)
    exact = refer(content)
    rounded = (exact.embeddings * (1 + 1e-6)).astype(np.float32)
    assert np.abs(rounded - exact.embeddings).max() > 1e-3
    check_parity(content, card, [Reference("random", exact.crops, rounded)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "uint8"}, "to have crops of uint8 as its card says, found uint16"),
        ({"channels": 3}, "to have 3 channels as its card says, found 2"),
        ({"channels": ("DNA", "ER", "AGP")}, "to have 3 channels as its card says, found 2"),
        ({"channels": "any"}, "to have any channels as its card says, found 2"),
        ({"crop": 32}, "to have crops of 32 px as its card says, found 16 px"),
        ({"output_width": 9}, r"embeddings \(8, 9\) for crops \(8, 2, 16, 16\).*found \(8, 8\)"),
        ({"output_width": None, "channel_width": 8}, r"embeddings \(8, 16\) .* found \(8, 8\)"),
    ],
)
def test_a_card_that_does_not_match_its_graph_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        check_parity(CONTENT, card_of(CONTENT, **changes))


def test_a_graph_that_takes_fewer_channels_than_its_card_says_is_refused():
    content = parse_graph(
        "counts = Cast<to = 1>(crops) two = Reshape(counts, shape) embedding = MatMul(two, w)",
        shape=np.array([-1, 512]),
        w=np.ones((512, 8), np.float32),
    )
    check_parity(content, card_of(content))
    with pytest.raises(InputError):
        check_parity(content, card_of(content, channels="any"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "to have a graph with an output"),
        (b"no model", "expected an ONNX model, found"),
        (CONTENT[: len(CONTENT) // 2], "expected an ONNX model"),
        (parse_graph("embedding = Flatten(crops)", given="float[n,c,y,x] crops"), "of float"),
        (parse_graph("embedding = Flatten(crops)", gives="uint16[n,d] embedding"), "of float32"),
        (
            parse_graph("embedding = Cast<to = 1>(crops)", gives="float[n,c,y,x] embedding"),
            r"\(n, d\) of float32 as its card says, found \(n, c, y, x\)",
        ),
        (
            parse_graph("embedding = Add(a, b)", given="float[n,d] a, float[n,d] b"),
            r"one input, .* found \(n, d\) of float and \(n, d\) of float",
        ),
    ],
)
def test_what_is_no_model_of_crops_is_refused(content, message):
    with pytest.raises(InputError, match=message):
        check_parity(content, card_of(content))


def test_nan_is_refused_on_a_crop_without_stain():
    content = parse_graph(
        "counts = Cast<to = 1>(crops) sums = ReduceMean<keepdims = 0>(counts, axes) "
        "embedding = Div(sums, sums)",
        axes=np.array([2, 3]),
    )
    card = card_of(content, output_width=2)
    with pytest.raises(InputError, match=r"NaN or infinity in 1 of 8 crops \(the first is crop 0"):
        check_parity(content, card)


def test_a_reference_with_nan_or_of_another_width_is_refused():
    good = refer(CONTENT)
    for bad in (good.embeddings * np.nan, good.embeddings[:, :4]):
        with pytest.raises(InputError, match=r"finite embeddings .* in the random reference"):
            check_parity(CONTENT, card_of(CONTENT), [Reference("random", good.crops, bad)])


def test_bf16_is_not_verified_where_it_does_not_run():
    with pytest.raises(InputError, match="computes in bf16 for model mine, found cpu"):
        check_parity(CONTENT, card_of(CONTENT, precision="bf16"))


def test_a_provider_that_is_not_here_is_refused():
    with pytest.raises(InputError, match="found 'tpu'"):
        check_parity(CONTENT, card_of(CONTENT), provider="tpu")


def test_random_crops_are_the_same_each_time_in_each_number_of_channels():
    card = classical_card()
    once, again = draw_all(card), draw_all(card)
    assert list(once) == ["random_1", "random_3", "random_6"]
    for what, crops in once.items():
        assert np.array_equal(crops, again[what])
        assert not crops[0, 0].any()
        assert crops.dtype == "uint16"
    limited = card.model_copy(update={"max_channels": 2})
    assert list(draw_all(limited)) == ["random_1", "random_2"]


def test_the_classical_features_pass():
    card = classical_card()
    assert check_parity(build_classical().SerializeToString(), card)[1] == {}


def test_references_survive_their_file():
    references = [refer(CONTENT), refer(CONTENT, what="plate")]
    content = write_references(references)
    assert content == write_references(references)
    found = read_references(content, where="reference.npz")
    assert {one.what for one in found} == {"random", "plate"}
    assert all(np.array_equal(one.crops, references[0].crops) for one in found)


def save(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def test_a_users_reference_needs_no_suffix():
    (found,) = read_references(
        save(crops=np.ones((1, 2, 16, 16), "uint16"), embeddings=np.ones((1, 8))), where="r"
    )
    assert (found.what, found.embeddings.dtype) == ("given", np.float32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no zip", "expected arrays crops and embeddings in reference.npz, found"),
        (save(), "expected pairs of crops and embeddings"),
        (save(crops=np.ones(2)), "found crops: write both"),
        (save(embeddings_plate=np.ones(2)), "found embeddings_plate: write both"),
        (save(crops=np.ones(1), embeddings=np.ones(1), other=np.ones(1)), "expected pairs"),
    ],
)
def test_a_reference_that_is_not_whole_is_refused(content, message):
    with pytest.raises(InputError, match=message):
        read_references(content, where="reference.npz")


def test_the_worst_of_a_cards_figures_is_told():
    figures = {"cosine_a": 0.9, "max_abs_a": 0.1, "cosine_b": 0.8, "max_abs_b": 0.01}
    assert worst_parity(figures) == Parity(0.8, 0.1)
    assert worst_parity(None) is None
