"""A graph in another precision: the arithmetic between its first and last weights.

What comes before the first weights is the scaling and standardisation of counts, which a half
float cannot hold, and what comes after the last is a normalisation and a mean over tokens: both
stay float32, as do the crops' type and the embedding's. Layer normalisation and softmax take half
floats and compute in float32 inside: ONNX says so of the one (``stash_type``), ONNX Runtime's
kernels do so in the other.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnx import numpy_helper as arrays
from onnx.inliner import inline_local_functions

from phenopipe.errors import InputError
from phenopipe.models.card import Precision

_KINDS = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}

_WEIGHTED = frozenset({"Attention", "Conv", "Gemm", "MatMul", "MultiHeadAttention"})

# Operators with CUDA kernels in both half floats, and with one float type for what they take and
# give: ONNX Runtime's docs/OperatorKernels.md. All others stay float32, between casts.
_LOWERED = _WEIGHTED | {
    *("Add", "Cast", "Concat", "Div", "Erf", "Exp", "Expand", "Flatten", "Gather", "Gelu"),
    *("FastGelu", "BiasGelu", "Identity", "LayerNormalization", "SkipLayerNormalization", "Mul"),
    *("Neg", "Pow", "RMSNormalization", "Relu", "Reshape", "Shape", "Sigmoid", "Slice"),
    *("Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where"),
}
# From this opset on ONNX Runtime's CUDA provider convolves in bfloat16.
_BF16_CONV_OPSET = 22


def convert_precision(content: bytes, precision: Precision) -> bytes:
    """Convert a float32 graph; its input and output keep their types.

    Parameters
    ----------
    content
        The bytes of a float32 ``model.onnx``.
    precision
        ``fp32`` gives the same bytes; ``fp16`` and ``bf16`` lower all between the first and the
        last weights; ``int8`` quantises the weights of matrix products, one scale a column, and
        what they multiply as it comes, one scale a tensor.

    Raises
    ------
    InputError
        If the graph has branches, or no weights to convert.
    """
    if precision == "fp32":
        return content
    model = read_graph(content)
    return _quantise(model) if precision == "int8" else _lower(model, _KINDS[precision])


def read_graph(content: bytes) -> ModelProto:
    """Parse the bytes of an ONNX file.

    Raises
    ------
    InputError
        If they are damaged, or of something else.
    """
    try:
        return onnx.load_from_string(content)
    except DecodeError as error:
        raise InputError(
            f"expected an ONNX model, found {error}: the file is damaged, export it again"
        ) from error


def _quantise(model: ModelProto) -> bytes:
    # Imported here: the tools take a fifth of a second.
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415
    from onnxruntime.quantization.quant_utils import (  # noqa: PLC0415
        add_pre_process_metadata,
    )

    add_pre_process_metadata(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        quantised = onnx.load(path)
    if not any(node.op_type == "MatMulInteger" for node in quantised.graph.node):
        raise InputError(
            "expected matrix products with weights to quantise, found none: choose fp16 or fp32"
        )
    return bytes(quantised.SerializeToString(deterministic=True))


def _lower(model: ModelProto, kind: int) -> bytes:
    branches = {
        node.op_type
        for node in model.graph.node
        for attribute in node.attribute
        if attribute.type in {AttributeProto.GRAPH, AttributeProto.GRAPHS}
    }
    if branches:
        raise InputError(
            f"expected a graph without branches to convert, found {', '.join(sorted(branches))}: "
            "export the model in this precision instead"
        )
    if model.functions:
        model = inline_local_functions(model)
    lowered = _pick_nodes(model, kind)
    if not lowered:
        raise InputError("expected a graph with weights to convert, found none: choose fp32")
    _Lowering(model, kind).rewrite(lowered)
    return bytes(model.SerializeToString(deterministic=True))


def _pick_nodes(model: ModelProto, kind: int) -> set[int]:
    """Pick, by their places, the nodes on a way from a node with weights to another."""
    opset = max(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    weighted = set(_WEIGHTED)
    if kind == TensorProto.BFLOAT16 and opset < _BF16_CONV_OPSET:
        weighted.discard("Conv")
    nodes = list(enumerate(model.graph.node))
    heavy = {place for place, node in nodes if node.op_type in weighted}
    after = _follow(nodes, heavy, took=lambda node: node.input, gave=lambda node: node.output)
    before = _follow(
        reversed(nodes), heavy, took=lambda node: node.output, gave=lambda node: node.input
    )
    kept = {place for place, node in nodes if node.op_type not in _LOWERED}
    if kind == TensorProto.BFLOAT16 and opset < _BF16_CONV_OPSET:
        kept |= {place for place, node in nodes if node.op_type == "Conv"}
    return (after & before) - kept


def _follow(
    nodes: Iterable[tuple[int, NodeProto]], heavy: set[int], *, took: Any, gave: Any
) -> set[int]:
    """Collect the places of the heavy nodes and of all that lie on from them."""
    reached: set[str] = set()
    places: set[int] = set()
    for place, node in nodes:
        if place in heavy or reached.intersection(took(node)):
            places.add(place)
            reached.update(name for name in gave(node) if name)
    return places


class _Lowering:
    """Rewrites a graph's nodes, with casts where two precisions meet."""

    def __init__(self, model: ModelProto, kind: int) -> None:
        self.graph: GraphProto = model.graph
        self.kind = kind
        self.suffix = TensorProto.DataType.Name(kind).lower()
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}
        self.floats = _float_names(model)
        self.results = {value.name for value in self.graph.output}
        # Names of tensors that are in the lower precision now; casts that are made already.
        self.low: set[str] = set()
        self.made: set[str] = set()
        self.nodes: list[NodeProto] = []

    def rewrite(self, lowered: set[int]) -> None:
        for place, node in enumerate(self.graph.node):
            if place in lowered:
                self._lower_node(node)
            else:
                node.input[:] = [self._raised(name) for name in node.input]
                self.nodes.append(node)
        used = {name for node in self.nodes for name in node.input} | self.results
        kept = [tensor for name, tensor in self.weights.items() if name in used]
        del self.graph.node[:], self.graph.initializer[:], self.graph.value_info[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(kept)

    def _lower_node(self, node: NodeProto) -> None:
        node.input[:] = [self._lowered(name) for name in node.input]
        self.nodes.append(node)
        if node.op_type == "Cast":
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                    attribute.i = self.kind
        for k, name in enumerate(node.output):
            if name not in self.floats:
                continue
            if name in self.results:
                node.output[k] = f"{name}_{self.suffix}"
                self._cast(node.output[k], name, TensorProto.FLOAT)
            else:
                self.low.add(name)

    def _lowered(self, name: str) -> str:
        if name not in self.floats or name in self.low:
            return name
        lower = f"{name}_{self.suffix}"
        if lower not in self.made:
            self.made.add(lower)
            if name in self.weights:
                self.weights[lower] = _convert(self.weights[name], lower, self.kind)
            else:
                self._cast(name, lower, self.kind)
        return lower

    def _raised(self, name: str) -> str:
        if name not in self.low:
            return name
        raised = f"{name}_float32"
        if raised not in self.made:
            self.made.add(raised)
            self._cast(name, raised, TensorProto.FLOAT)
        return raised

    def _cast(self, name: str, result: str, kind: int) -> None:
        self.nodes.append(
            helper.make_node("Cast", [name], [result], name=f"cast_{result}", to=kind)
        )


def _float_names(model: ModelProto) -> set[str]:
    """Name the graph's float32 tensors; operators unknown to ONNX give what they take."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    kinds |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        floating = any(kinds.get(name) == TensorProto.FLOAT for name in node.input)
        for name in node.output:
            kinds.setdefault(name, TensorProto.FLOAT if floating else TensorProto.UNDEFINED)
    return {name for name, kind in kinds.items() if kind == TensorProto.FLOAT and name}


def _convert(tensor: TensorProto, name: str, kind: int) -> TensorProto:
    """Round a weight to a half float; what is too large for it becomes the largest there is."""
    values: npt.NDArray[Any] = arrays.to_array(tensor)
    half = helper.tensor_dtype_to_np_dtype(kind)
    if kind == TensorProto.FLOAT16:
        values = np.clip(values, *(np.finfo(np.float16).min, np.finfo(np.float16).max))
    return arrays.from_array(values.astype(half), name)
