import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from phenopipe.errors import InputError
from phenopipe.models import convert_precision, open_session
from phenopipe.models.parity import Parity, check_parity, draw_crops
from tests.models.graphs import card_of, parse_graph, projection

CONTENT = projection()
CROPS = draw_crops(card_of(CONTENT), n_channels=2)


def list_types(content):
    """Give each tensor's type, as ONNX infers it from the graph alone."""
    graph = onnx.shape_inference.infer_shapes(
        onnx.load_from_string(content), check_type=True, strict_mode=True
    ).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def test_fp32_is_left_as_it_is():
    assert convert_precision(CONTENT, "fp32") == CONTENT


@pytest.mark.parametrize(
    ("precision", "kind"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)]
)
def test_what_lies_between_the_weights_is_lowered_and_nothing_else(precision, kind):
    types = list_types(convert_precision(CONTENT, precision))
    assert types["crops"] == TensorProto.UINT16
    assert {types[name] for name in ("hidden", "shares", "kept")} == {kind}
    assert {types[name] for name in ("planes", "deviation", "embedding")} == {TensorProto.FLOAT}
    assert "first" not in types


@pytest.mark.parametrize(("precision", "ulp"), [("fp16", 2.0**-11), ("bf16", 2.0**-8)])
def test_half_floats_give_what_float32_gives_within_their_rounding(precision, ulp):
    model = onnx.load_from_string(convert_precision(CONTENT, precision))
    (found,) = ReferenceEvaluator(model).run(None, {"crops": CROPS})
    parity = Parity.of(found, open_session(CONTENT).embed(CROPS))
    assert found.dtype == np.float32
    assert 1 - parity.cosine < (8 * ulp) ** 2
    assert parity.max_abs > 0


def test_fp16_runs_here_and_passes_the_gate():
    content = convert_precision(CONTENT, "fp16")
    reference = open_session(CONTENT).embed(CROPS)
    found = open_session(content).embed(CROPS)
    assert Parity.of(found, reference).cosine > 0.9999
    check_parity(content, card_of(content, precision="fp16"))


def test_int8_runs_here_and_its_weights_are_a_quarter():
    content = projection(hidden=256)
    quantised = convert_precision(content, "int8")
    assert len(quantised) < 0.3 * len(content)
    assert (
        Parity.of(open_session(quantised).embed(CROPS), open_session(content).embed(CROPS)).cosine
        > 0.98
    )


def test_a_conversion_is_the_same_bytes_each_time():
    for precision in ("fp16", "bf16", "int8"):
        assert convert_precision(CONTENT, precision) == convert_precision(CONTENT, precision)


def test_an_output_straight_from_weights_is_float32():
    content = parse_graph(
        "counts = Cast<to = 1>(crops) flat = Flatten(counts) scaled = Mul(flat, scale) "
        "embedding = MatMul(scaled, w)",
        scale=np.float32(2**-16),
        w=np.ones((512, 8), np.float32),
    )
    types = list_types(convert_precision(content, "fp16"))
    assert types["embedding"] == TensorProto.FLOAT
    assert types["scaled"] == TensorProto.FLOAT


def test_an_operator_without_half_kernels_stays_float32_between_casts():
    content = parse_graph(
        "counts = Cast<to = 1>(crops) flat = Flatten(counts) a = MatMul(flat, w) "
        "b = Ceil(a) c = Add(b, a) embedding = MatMul(c, v)",
        w=np.full((512, 8), 1e-5, np.float32),
        v=np.eye(8, dtype=np.float32),
    )
    converted = convert_precision(content, "fp16")
    types = list_types(converted)
    assert (types["b"], types["c"]) == (TensorProto.FLOAT, TensorProto.FLOAT16)
    assert open_session(converted).embed(CROPS).shape == (8, 8)


def test_a_weight_beyond_fp16_becomes_the_largest_there_is():
    content = parse_graph(
        "counts = Cast<to = 1>(crops) flat = Flatten(counts) a = MatMul(flat, w) "
        "embedding = MatMul(a, v)",
        w=np.full((512, 8), 1e-9, np.float32),
        v=np.full((8, 8), 1e6, np.float32),
    )
    assert np.isfinite(open_session(convert_precision(content, "fp16")).embed(CROPS)).all()


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_a_graph_without_weights_is_refused(precision):
    with pytest.raises(InputError, match=r"weights to (convert|quantise), found none"):
        convert_precision(
            parse_graph("counts = Cast<to = 1>(crops) embedding = Flatten(counts)"), precision
        )


def test_a_graph_with_branches_is_refused():
    model = onnx.load_from_string(CONTENT)
    branch = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["planes"], ["same"])],
        "branch",
        [],
        [onnx.helper.make_tensor_value_info("same", TensorProto.FLOAT, None)],
    )
    node = onnx.helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)
    with pytest.raises(InputError, match="a graph without branches to convert, found If"):
        convert_precision(model.SerializeToString(), "fp16")


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_a_damaged_file_is_refused(precision):
    with pytest.raises(InputError, match="expected an ONNX model"):
        convert_precision(b"no model", precision)
