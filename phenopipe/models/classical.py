"""The classical features: named measures of a crop as one ONNX graph, with no weights to fetch.

Every ratio has a floor under its denominator, so that an empty crop gives finite values.
"""

import hashlib
import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from phenopipe.models.card import Card

# The default crop's side: about ten cells at 10x, 1.3 um a pixel.
CROP = 80

CHANNEL_FEATURES = (
    "mean",  # log2(1 + counts), as are std, background, peak and foreground_intensity
    "std",
    "skewness",
    "kurtosis",  # log2(1 + fourth standardised moment)
    "background",  # 10th percentile of the 8 px squares
    "peak",  # 99th percentile of the 8 px squares, above background
    "median",  # median of the 8 px squares, as a share of the peak
    "spectrum_2",  # share of the variance that averaging over 2 px squares removes
    "spectrum_4",  # ... from 2 to 4 px squares, and so on: energy of the Haar wavelets
    "spectrum_8",
    "spectrum_16",
    "contrast_2",  # mean absolute difference at 2 px in standard deviations
    "granularity_1",  # share of the signal that opening with a square of 1 px radius removes
    "granularity_2",  # ... of 2 px radius beyond that, and so on (CellProfiler's granularity)
    "granularity_4",
    "granularity_8",
    "granularity_16",
    "foreground_area",  # share of the crop above background + 0.3 of the peak
    "foreground_intensity",
    "foreground_variation",  # standard deviation over mean within the foreground
    "foreground_edge",  # share of the foreground that touches the background
    "spots",  # log2(1 + local maxima of the 4 px squares in 10,000 pixels)
)
PAIR_FEATURES = (
    "correlation",  # Pearson's, of the pixels
    "overlap",  # of the foregrounds: their intersection over the geometric mean of their areas
)


def classical_card() -> Card:
    """Describe the classical features.

    Examples
    --------
    >>> classical_card().width(6)
    162
    """
    content = build_classical().SerializeToString()
    return Card(
        name="classical",
        version="1",
        dtype="uint16",
        channels="any",
        crop=CROP,
        channel_features=CHANNEL_FEATURES,
        pair_features=PAIR_FEATURES,
        digest=hashlib.sha256(content).hexdigest(),
        licence="BSD-3-Clause",
        providers=("CPUExecutionProvider",),
    )


def build_classical() -> onnx.ModelProto:
    """Build the graph: ``crops`` uint16 (n, c, y, x) to ``embedding`` float32 (n, d).

    The width d is 22 c + c (c - 1): the channels' features, then the pairs', in the order of
    ``classical_card().feature_names(channels)``. Crops are at least 16 px a side. The bytes
    are the same each time.

    References
    ----------
    Granularity: Ravkin & Temov (1988), as in CellProfiler's MeasureGranularity, by squares.
    Contrast: Haralick et al. (1973), of the difference at one step.

    Examples
    --------
    >>> [output.name for output in build_classical().graph.output]
    ['embedding']
    """
    graph = _Graph()
    crops = _Value(graph, "crops")
    planes = _planes(crops)
    squares = _halve_repeatedly(planes)
    moments, centred, deviation = _moments(planes)
    levels, background, threshold = _levels(squares[3])
    shapes, foreground = _foreground(planes, background, threshold)
    channel_part = graph.op(
        "Concat",
        *moments,
        *levels,
        *_spectrum(squares),
        _contrast(squares[1]) / deviation,
        *_granularity(planes, squares[1]),
        *shapes,
        _spots(squares[2], threshold),
        axis=1,
    )
    pairs = _pairs(crops, [(centred, deviation), (foreground, shapes[0].root().at_least(1e-3))])
    flat = graph.op("Reshape", channel_part, graph.op("Concat", crops.dims(0, 1), [-1], axis=0))
    graph.op("Concat", flat, pairs, axis=1, name="embedding")
    return graph.model()


def _planes(crops: "_Value") -> "_Value":
    shape = crops.graph.op("Concat", [-1, 1], crops.dims(2, 4), axis=0)
    return crops.cast(TensorProto.FLOAT).op("Reshape", shape)


def _halve_repeatedly(planes: "_Value") -> list["_Value"]:
    squares = [planes]
    for _ in range(4):
        squares.append(squares[-1].op("AveragePool", kernel_shape=[2, 2], strides=[2, 2]))
    return squares


def _moments(planes: "_Value") -> tuple[list["_Value"], "_Value", "_Value"]:
    mean = planes.mean()
    centred = planes - mean
    square = centred * centred
    variance = square.mean()
    deviation = variance.root().at_least(1e-3)
    skewness = (square * centred).mean() / (deviation * deviation * deviation)
    kurtosis = (square * square).mean() / (deviation * deviation * deviation * deviation)
    return [mean.log(), variance.root().log(), skewness, kurtosis.log()], centred, deviation


def _levels(squares: "_Value") -> tuple[list["_Value"], "_Value", "_Value"]:
    # Of squares, not of pixels: robust to noise, and 64 times less to sort.
    flat = squares.op("Flatten")
    count = flat.dims(1, 2)
    ranked = flat.op("TopK", count, largest=0, outputs=2)
    last = count.cast(TensorProto.FLOAT) - 1.0
    background, median, peak = (
        ranked.op("Gather", (last * share).cast(TensorProto.INT64), axis=1).op("Unsqueeze", [2, 3])
        for share in (0.1, 0.5, 0.99)
    )
    height = (peak - background).at_least(1.0)
    features = [background.log(), (peak - background).log(), (median - background) / height]
    return features, background, background + height * 0.3


def _spectrum(squares: list["_Value"]) -> list["_Value"]:
    variances = [(centred * centred).mean() for centred in (s - s.mean() for s in squares)]
    total = variances[0].at_least(1e-6)
    return [(fine - coarse) / total for fine, coarse in pairwise(variances)]


def _contrast(squares: "_Value") -> "_Value":
    steps = [
        (squares.cut(1, None, axis=axis) - squares.cut(0, -1, axis=axis)).op("Abs").mean()
        for axis in (2, 3)
    ]
    return (steps[0] + steps[1]) * 0.5


def _granularity(planes: "_Value", squares: "_Value") -> list["_Value"]:
    # Radii from 2 px on are opened at half resolution, as CellProfiler subsamples.
    signal = (planes.mean() - planes.op("ReduceMin", [2, 3])).at_least(1.0)
    left = [squares.mean(), *(_open(squares, radius).mean() for radius in (1, 2, 4, 8))]
    removed = [planes.mean() - _open(planes, 1).mean()]
    removed += [before - after for before, after in pairwise(left)]
    return [part / signal for part in removed]


def _open(planes: "_Value", radius: int) -> "_Value":
    eroded = -((-planes).widen(radius))
    return eroded.widen(radius)


def _foreground(
    planes: "_Value", background: "_Value", threshold: "_Value"
) -> tuple[list["_Value"], "_Value"]:
    foreground = planes.op("Greater", threshold).cast(TensorProto.FLOAT)
    area = foreground.mean()
    some = area.at_least(1e-6)
    signal = planes - background
    mean = (signal * foreground).mean() / some
    away = (signal - mean) * foreground
    variation = ((away * away).mean() / some).root() / mean.at_least(1.0)
    inside = -(-foreground).widen(1)
    return [area, mean.log(), variation, (area - inside.mean()) / some], foreground


def _spots(squares: "_Value", threshold: "_Value") -> "_Value":
    is_top = squares.op("Equal", squares.widen(2))
    is_spot = is_top.op("And", squares.op("Greater", threshold)).cast(TensorProto.FLOAT)
    return (is_spot.mean() * (1e4 / 16)).log()


def _pairs(crops: "_Value", measures: list[tuple["_Value", "_Value"]]) -> "_Value":
    """Give, for each pair of channels, the mean product of their planes over their scales."""
    graph = crops.graph
    channels = crops.dims(1, 2)
    square = graph.op("Concat", channels, channels, axis=0)
    ones = square.op("ConstantOfShape", value=numpy_helper.from_array(np.ones(1, np.int64)))
    rows_columns = ones.op("Trilu", np.int64(1), upper=1).op("NonZero")
    rows, columns = (rows_columns.op("Gather", [k], axis=0) for k in (0, 1))
    places = (rows * channels + columns).op("Reshape", [-1])
    shape = graph.op("Concat", crops.dims(0, 2), [-1], axis=0)
    n_pixels = crops.dims(2, 4).op("ReduceProd").cast(TensorProto.FLOAT)
    parts = []
    for planes, scale in measures:
        lists, scales = planes.op("Reshape", shape), scale.op("Reshape", shape)
        products = lists.op("MatMul", lists.op("Transpose", perm=[0, 2, 1])) / n_pixels
        matrix = products / (scales * scales.op("Transpose", perm=[0, 2, 1]))
        parts.append(matrix.op("Flatten").op("Gather", places, axis=1).op("Unsqueeze", [2]))
    return graph.op("Concat", *parts, axis=2).op("Flatten")


@dataclass
class _Graph:
    """A graph in the making; values come out in the order of the calls, so the bytes are fixed."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def op(
        self, kind: str, *inputs: Any, outputs: int = 1, name: str = "", **attributes: Any
    ) -> "_Value":
        names = [self.constant(value) for value in inputs]
        name = name or f"v{len(self.nodes)}"
        out = [name, *(f"{name}_{k}" for k in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, names, out, **attributes))
        return _Value(self, name)

    def constant(self, value: Any) -> str:
        if isinstance(value, _Value):
            return value.name
        dtype = np.float32 if isinstance(value, float) else np.int64
        array = np.asarray(value, dtype)
        name = f"{array.dtype}_{array.tolist()}"
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "classical",
            [helper.make_tensor_value_info("crops", TensorProto.UINT16, ["n", "c", "y", "x"])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", "d"])],
            list(self.constants.values()),
        )
        # IR 9 and opset 18: old runtimes read them, and the bytes do not change with onnx's.
        opset = helper.make_operatorsetid("", 18)
        return helper.make_model(
            graph, ir_version=9, opset_imports=[opset], producer_name="phenopipe"
        )


@dataclass(frozen=True)
class _Value:
    """One value of a graph, with arithmetic; ``mean`` is over a plane's pixels."""

    graph: _Graph
    name: str

    def op(self, kind: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> "_Value":
        return self.graph.op(kind, self, *inputs, outputs=outputs, **attributes)

    def __add__(self, other: Any) -> "_Value":
        return self.op("Add", other)

    def __sub__(self, other: Any) -> "_Value":
        return self.op("Sub", other)

    def __mul__(self, other: Any) -> "_Value":
        return self.op("Mul", other)

    def __truediv__(self, other: Any) -> "_Value":
        return self.op("Div", other)

    def __neg__(self) -> "_Value":
        return self.op("Neg")

    def at_least(self, floor: float) -> "_Value":
        return self.op("Max", floor)

    def cast(self, to: int) -> "_Value":
        return self.op("Cast", to=to)

    def cut(self, start: int, stop: int | None, *, axis: int) -> "_Value":
        return self.op("Slice", [start], [np.iinfo(np.int64).max if stop is None else stop], [axis])

    def dims(self, start: int, end: int) -> "_Value":
        return self.op("Shape", start=start, end=end)

    def log(self) -> "_Value":
        """Take log2(1 + value), of the value's positive part."""
        return (self.at_least(0.0) + 1.0).op("Log") * (1 / math.log(2))

    def mean(self) -> "_Value":
        return self.op("ReduceMean", [2, 3])

    def root(self) -> "_Value":
        return self.op("Sqrt")

    def widen(self, radius: int) -> "_Value":
        side = 2 * radius + 1
        return self.op("MaxPool", kernel_shape=[side, side], pads=[radius] * 4)
