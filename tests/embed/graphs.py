"""Small models of crops of any size, for a plate written by hand."""

import hashlib

from phenopipe.models import Card, publish_model
from tests.models.graphs import parse_graph

_COUNTS = "counts = Cast<to = 1>(crops) axes = Constant<value_ints = [2, 3]>() "
_PEAKS = (
    "sums = ReduceSum<keepdims = 0>(counts, axes) peak = ReduceMax<keepdims = 0>(counts) "
    "limit = Constant<value_float = 60000.0>() "
)
# The sum of each channel: what a model saw is plain to check. At a pixel above 60,000 the second
# never ends, and the third gives NaN.
SUMS = f"{_COUNTS} embedding = ReduceSum<keepdims = 0>(counts, axes)"
HANGS = (
    f"{_COUNTS} {_PEAKS} bright = Greater(peak, limit) "
    "most = Constant<value_int = 9223372036854775807>() "
    "embedding = Loop<body = b (int64 k, bool on, float[n,d] v) => (bool going, float[n,d] w) "
    "{ going = Identity(on) w = Identity(v) }>(most, bright, sums)"
)
FAILS = (
    f"{_COUNTS} {_PEAKS} left = Sub(limit, peak) root = Sqrt(left) zero = Sub(root, root) "
    "embedding = Add(sums, zero)"
)


def make_model(body=SUMS, *, dtype="uint16", **entries):
    """Give a graph and its card."""
    content = parse_graph(body, given=f"{dtype}[n,c,y,x] crops")
    return content, describe(content, dtype=dtype, **entries)


def describe(content, **entries):
    usual = {
        "name": "sums",
        "version": "1",
        "dtype": "uint16",
        "channels": "any",
        "crop": 32,
        "channel_features": ("sum",),
        "digest": hashlib.sha256(content).hexdigest(),
        "licence": "MIT",
    }
    return Card(**(usual | entries))


def add_model(lake, body=SUMS, **entries):
    publish_model(lake, *make_model(body, **entries))
