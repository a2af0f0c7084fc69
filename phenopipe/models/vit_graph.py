"""A vision transformer as an ONNX graph that runtimes run in fused kernels.

The graph is written op by op and not traced, so that attention, norms and GELU are each one
standard op, weights are stored once in the layout of their MatMul, and the bytes are the same
each time. Three rewritings save passes over the tokens, with the same sums: the layer scale is
multiplied into the output projections; the bias of v goes through attention, whose weights sum
to 1, into the bias behind it; q, k, v and the MLP are projected apart, and nothing is split.

Every op of it has a kernel at this opset in ONNX Runtime's CUDA provider, for float32, float16
and bfloat16 (its docs/OperatorKernels.md). ReduceMin and Flatten have none since opset 20, and
would take the pixels through the CPU; so they are not used.
"""

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from phenopipe.models.crop_model import PRECISIONS, Standardise, Tensor, torch
from phenopipe.models.vit import ParallelBlock, VitEncoder

# Attention is an op since opset 23, ONNX 1.18.
OPSET = 23
IR_VERSION = 11

_TYPES = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_PIXELS = {"uint8": TensorProto.UINT8, "uint16": TensorProto.UINT16}


def build_vit_graph(
    preprocessing: Standardise, encoder: VitEncoder, *, dtype: str, precision: str = "fp32"
) -> onnx.ModelProto:
    """Write the graph: ``crops`` (n, c, crop, crop) of the dtype to ``embedding`` (n, d) float32.

    Pixels are standardised in float32, whatever the precision of the encoder.
    """
    graph = _Graph(precision)
    with torch.no_grad():
        planes = _standardise(graph, "crops", floor=preprocessing.floor)
        tokens = _embed_patches(graph, graph.op("Cast", planes, to=_TYPES[precision]), encoder)
        for block in encoder.blocks:
            tokens = _run_block(graph, tokens, cast("ParallelBlock", block))
        _pool(graph, graph.norm(tokens, encoder.norm), encoder)
    return _wrap(graph, encoder, dtype=dtype)


def _standardise(graph: "_Graph", crops: str, *, floor: float) -> str:
    # Step by step as Standardise: the op InstanceNormalization takes no such care of constants.
    axes = graph.ints(2, 3)
    counts = graph.op("Cast", crops, to=TensorProto.FLOAT)
    corner = graph.op("Slice", counts, graph.ints(0, 0), graph.ints(1, 1), axes)
    lifted = graph.op("Sub", counts, corner)
    centred = graph.op("Sub", lifted, graph.op("ReduceMean", lifted, axes))
    variance = graph.op("ReduceMean", graph.op("Mul", centred, centred), axes)
    floored = graph.op("Add", variance, graph.constant(np.float32(floor)))
    return graph.op("Div", centred, graph.op("Sqrt", floored))


def _embed_patches(graph: "_Graph", planes: str, encoder: VitEncoder) -> str:
    """Multiply patches by the kernel: a convolution whose stride is its side is a MatMul."""
    weight, bias = encoder.patch_embed.proj.weight, cast("Tensor", encoder.patch_embed.proj.bias)
    side, patch = encoder.crop // weight.shape[2], weight.shape[2]
    cut = graph.op("Reshape", planes, graph.ints(0, 0, side, patch, side, patch))
    shared = encoder.channels == "any"
    order = [0, 1, 2, 4, 3, 5] if shared else [0, 2, 4, 1, 3, 5]
    groups = (0, 0) if shared else (0, 1)
    shape = graph.ints(*groups, side * side, weight[0].numel())
    patches = graph.op("Reshape", graph.op("Transpose", cut, perm=order), shape)
    tokens = graph.op("MatMul", patches, graph.weight(weight.flatten(1).T))
    offsets = encoder.pos_embed[0, 1:] + bias
    placed = graph.op("Add", tokens, graph.weight(offsets))
    joined = graph.op("Reshape", placed, graph.ints(0, -1, weight.shape[0]))
    return graph.op("Concat", _repeat_first(graph, planes, encoder), joined, axis=1)


def _repeat_first(graph: "_Graph", planes: str, encoder: VitEncoder) -> str:
    first = graph.weight(encoder.cls_token + encoder.pos_embed[:, :1])
    n_crops = graph.op("Shape", planes, start=0, end=1)
    return graph.op("Expand", first, graph.op("Concat", n_crops, graph.ints(1, 1), axis=0))


def _run_block(graph: "_Graph", tokens: str, block: ParallelBlock) -> str:
    normed = graph.norm(tokens, block.in_norm)
    weights = block.in_proj.weight.split(block.parts)
    biases = block.in_bias().split(block.parts)
    hidden, q, k = (
        graph.op("Add", graph.matmul(normed, weight), graph.weight(bias))
        for weight, bias in zip(weights[:3], biases[:3], strict=True)
    )
    attended = graph.op(
        "Attention",
        _norm_heads(graph, q, block.q_norm, heads=block.heads),
        _norm_heads(graph, k, block.k_norm, heads=block.heads),
        graph.matmul(normed, weights[3]),
        q_num_heads=block.heads,
        kv_num_heads=block.heads,
    )
    scale, after, mlp = block.ls.gamma, block.attn_out_proj, block.mlp_out_proj
    from_attention = graph.matmul(attended, scale[:, None] * after.weight)
    from_mlp = graph.matmul(graph.op("Gelu", hidden), scale[:, None] * mlp.weight)
    bias = scale * (after.bias + mlp.bias + after.weight @ biases[3])
    change = graph.op("Add", from_attention, graph.op("Add", from_mlp, graph.weight(bias)))
    return graph.op("Add", tokens, change)


def _norm_heads(graph: "_Graph", values: str, norm: Any, *, heads: int) -> str:
    width = norm.normalized_shape[0]
    apart = graph.op("Reshape", values, graph.ints(0, 0, heads, width))
    return graph.op("Reshape", graph.norm(apart, norm), graph.ints(0, 0, heads * width))


def _pool(graph: "_Graph", tokens: str, encoder: VitEncoder) -> None:
    end = graph.ints(np.iinfo(np.int64).max)
    patches = graph.op("Slice", tokens, graph.ints(1), end, graph.ints(1))
    exact = graph.op("Cast", patches, to=TensorProto.FLOAT)
    if encoder.output == "pooled":
        graph.op("ReduceMean", exact, graph.ints(1), keepdims=0, name="embedding")
        return
    shape = graph.ints(0, -1, encoder.n_patches, encoder.norm.normalized_shape[0])
    means = graph.op("ReduceMean", graph.op("Reshape", exact, shape), graph.ints(2), keepdims=0)
    graph.op("Reshape", means, graph.ints(0, -1), name="embedding")


def _wrap(graph: "_Graph", encoder: VitEncoder, *, dtype: str) -> onnx.ModelProto:
    channels = "c" if encoder.channels == "any" else encoder.channels
    width = encoder.norm.normalized_shape[0] if encoder.output == "pooled" else "d"
    shape = ["n", channels, encoder.crop, encoder.crop]
    body = helper.make_graph(
        graph.nodes,
        "vit",
        [helper.make_tensor_value_info("crops", _PIXELS[dtype], shape)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", width])],
        list(graph.constants.values()),
    )
    opset = helper.make_operatorsetid("", OPSET)
    return helper.make_model(
        body, ir_version=IR_VERSION, opset_imports=[opset], producer_name="phenopipe"
    )


@dataclass
class _Graph:
    """Nodes and constants in the making; values are named in the order of the calls."""

    precision: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def norm(self, values: str, norm: Any) -> str:
        scale, offset = self.weight(norm.weight), self.weight(norm.bias)
        return self.op("LayerNormalization", values, scale, offset, axis=-1, epsilon=norm.eps)

    def matmul(self, values: str, weight: Tensor) -> str:
        """Multiply by a torch layer's weight, whose rows are outputs."""
        return self.op("MatMul", values, self.weight(weight.T))

    def weight(self, weight: Tensor) -> str:
        values = weight.detach().to("cpu", PRECISIONS[self.precision]).contiguous()
        name = f"weight_{len(self.constants)}"
        tensor = TensorProto(data_type=_TYPES[self.precision], dims=values.shape, name=name)
        # As bytes: numpy has no bfloat16.
        tensor.raw_data = values.view(torch.uint8).numpy().tobytes()
        self.constants[name] = tensor
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def constant(self, value: Any) -> str:
        name = f"{value.dtype}_{value.tolist()}"
        self.constants.setdefault(name, numpy_helper.from_array(np.asarray(value), name))
        return name
