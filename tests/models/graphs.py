"""Small graphs and their cards, written by hand."""

import hashlib

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from phenopipe.models import Card

CROP = 16


def parse_graph(body, *, given="uint16[n,c,16,16] crops", gives="float[n,d] embedding", **weights):
    header = '<ir_version: 9, opset_import: ["": 18]>'
    text = f"{header} model ({given}) => ({gives}) {{ {body} }}"
    model = onnx.parser.parse_model(text)
    tensors = (numpy_helper.from_array(np.asarray(w), name) for name, w in weights.items())
    model.graph.initializer.extend(tensors)
    return model.SerializeToString()


def projection(*, n_channels=2, width=8, hidden=32, seed=0):
    """Standardised pixels through two layers of weights, with a softmax between."""
    rng = np.random.default_rng(seed)
    size = n_channels * CROP * CROP
    return parse_graph(
        """
        counts = Cast<to = 1>(crops)
        mean = ReduceMean<keepdims = 1>(counts, axes)
        centred = Sub(counts, mean)
        squares = Mul(centred, centred)
        variance = ReduceMean<keepdims = 1>(squares, axes)
        floored = Add(variance, one)
        deviation = Sqrt(floored)
        planes = Div(centred, deviation)
        flat = Flatten(planes)
        hidden = MatMul(flat, first)
        shares = Softmax<axis = 1>(hidden)
        kept = Mul(hidden, shares)
        embedding = MatMul(kept, second)
        """,
        given=f"uint16[n,{n_channels},16,16] crops",
        axes=np.array([2, 3]),
        one=np.float32(1),
        first=rng.normal(0, size**-0.5, (size, hidden)).astype(np.float32),
        second=rng.normal(0, 1, (hidden, width)).astype(np.float32),
    )


def card_of(content, **changes):
    entries = {
        "name": "mine",
        "version": "1",
        "dtype": "uint16",
        "channels": 2,
        "crop": CROP,
        "output_width": 8,
        "digest": hashlib.sha256(content).hexdigest(),
        "licence": "MIT",
    }
    return Card(**(entries | changes))
