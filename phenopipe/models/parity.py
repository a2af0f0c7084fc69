"""The parity gate: a graph must fit its card and give what the original model gave."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from phenopipe.compute import usable_cores
from phenopipe.errors import InputError
from phenopipe.models.card import Card
from phenopipe.models.precision import read_graph
from phenopipe.models.providers import PROVIDERS, check_provider
from phenopipe.models.session import Session, open_session

Crops = npt.NDArray[Any]
Vectors = npt.NDArray[np.float32]

# The smallest cosine, and the largest absolute difference in units of the original's root mean
# square (of 1 where that is less): docs/precision.md has the reasons and what was measured.
_LIMITS = {
    "fp32": (0.99999, 1e-4),
    "fp16": (0.99999, 0.05),
    "bf16": (0.9999, 0.2),
    "int8": (0.999, 0.5),
}

_GRAPH_DTYPES: dict[int, str] = {TensorProto.UINT8: "uint8", TensorProto.UINT16: "uint16"}
_N_RANDOM = 8
# Channels that a graph with a free channel axis is tried with: one, few, and the most it takes.
_FEW, _MANY = 3, 6


@dataclass(frozen=True)
class Reference:
    """What the original model made of some crops.

    Attributes
    ----------
    what
        Where the crops come from: ``random``, ``plate``, or what the user calls it.
    crops
        ``(n, c, y, x)`` of the card's dtype.
    embeddings
        ``(n, d)`` float32.
    """

    what: str
    crops: Crops
    embeddings: Vectors


@dataclass(frozen=True)
class Parity:
    """How far embeddings lie from the original's: smallest cosine, largest difference."""

    cosine: float
    max_abs: float

    @classmethod
    def of(cls, found: Vectors, expected: Vectors) -> Self:
        """Compare embeddings ``(n, d)`` row by row.

        Examples
        --------
        >>> Parity.of(np.array([[3.0, 4.5]]), np.array([[3.0, 4.0]])).max_abs
        0.5
        """
        a, b = found.astype(np.float64), expected.astype(np.float64)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        both_zero = ~a.any(axis=1) & ~b.any(axis=1)
        cosines = np.where(
            both_zero, 1, (a * b).sum(axis=1) / np.maximum(norms, np.finfo(float).tiny)
        )
        return cls(float(cosines.min()), float(np.abs(a - b).max()))


def check_parity(
    content: bytes, card: Card, references: Sequence[Reference] = (), *, provider: str = "cpu"
) -> tuple[str, dict[str, float]]:
    """Check that a graph fits its card and gives what the original gave.

    Parameters
    ----------
    content
        The bytes of ``model.onnx``.
    references
        What the original made of some crops; without one, parity is unknown.

    Returns
    -------
    str
        The execution provider that ran it.
    dict of float
        ``cosine_<what>``, the smallest, and ``max_abs_<what>``, the largest, of each reference.

    Raises
    ------
    InputError
        If the bytes do not load, the graph is not what the card says, it gives NaN, or its
        embeddings differ from the original's by more than the precision allows.
    """
    check_provider(provider)
    check_graph(content, card)
    if card.precision == "bf16" and provider == "cpu":
        raise InputError(
            f"expected a provider that computes in bf16 for model {card.name}, found cpu, for "
            "which ONNX Runtime has no such kernels: add and verify the model where a GPU is, "
            "with --provider cuda, or choose another precision"
        )
    sessions = _Sessions(content, card, provider)
    figures: dict[str, float] = {}
    for reference in references:
        parity = _compare(sessions.embed(reference.crops), card, reference)
        figures[f"cosine_{reference.what}"] = parity.cosine
        figures[f"max_abs_{reference.what}"] = parity.max_abs
    compared = {reference.crops.shape[1] for reference in references}
    for crops in draw_all(card).values():
        if crops.shape[1] not in compared:
            sessions.embed(crops)
    return PROVIDERS[provider], figures


def check_graph(content: bytes, card: Card) -> None:
    """Check a graph's declared input and output against its card.

    Raises
    ------
    InputError
        If the bytes are no ONNX model, or types, axes or sizes differ.
    """
    graph = read_graph(content).graph
    if not graph.output:
        raise _refuse(card, "a graph with an output", "none")
    stored = {tensor.name for tensor in graph.initializer}
    given = [_describe(value) for value in graph.input if value.name not in stored]
    if len(given) != 1 or len(given[0][1]) != 4 or given[0][0] not in _GRAPH_DTYPES:
        raise _refuse(card, "one input, crops (n, c, y, x) of uint8 or uint16", _spell(given))
    kind, (_, channels, height, width) = given[0]
    if _GRAPH_DTYPES[kind] != card.dtype:
        raise _refuse(card, f"crops of {card.dtype}", _GRAPH_DTYPES[kind])
    fits = not card.free_channels and channels in _channel_counts(card)
    if isinstance(channels, int) and not fits:
        raise _refuse(card, f"{_spell_channels(card)} channels", str(channels))
    for side in (height, width):
        if isinstance(side, int) and side != card.crop:
            raise _refuse(card, f"crops of {card.crop} px", f"{side} px")
    kind, axes = _describe(graph.output[0])
    if kind != TensorProto.FLOAT or len(axes) not in {0, 2}:
        raise _refuse(card, "an output (n, d) of float32", _spell([(kind, axes)]))


def draw_crops(card: Card, *, n: int = _N_RANDOM, n_channels: int) -> Crops:
    """Draw crops of noise at many exposures; in the first, a channel is empty.

    Returns
    -------
    ndarray
        ``(n, n_channels, crop, crop)`` of the card's dtype; the same each time.
    """
    rng = np.random.default_rng([n_channels, card.crop])
    brightest = np.iinfo(card.dtype).max
    shape = (n, n_channels, card.crop, card.crop)
    exposures = brightest * 0.5 ** rng.uniform(0, 5, (n, n_channels, 1, 1))
    crops = (rng.random(shape, np.float32) * exposures).astype(card.dtype)
    # A well without a stain is such a plane: standardising it must not divide by zero.
    crops[0, 0] = 0
    return crops


def draw_all(card: Card) -> dict[str, Crops]:
    """Draw random crops in each number of channels that a graph is tried with, by name."""
    counts = _channel_counts(card)
    n = _N_RANDOM // len(counts)
    return {f"random_{count}": draw_crops(card, n=n, n_channels=count) for count in counts}


def read_references(content: bytes, *, where: object) -> list[Reference]:
    """Read ``reference.npz``: arrays ``crops`` and ``embeddings``, or pairs of these by suffix.

    ``crops_plate`` and ``embeddings_plate`` make the reference named ``plate``; without a
    suffix it is named ``given``.

    Raises
    ------
    InputError
        If the file is damaged, or an array lacks its other half.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"expected arrays crops and embeddings in {where}, found {error}: write them with "
            "numpy.savez"
        ) from error
    suffixes = {name.removeprefix("crops") for name in found if name.startswith("crops")}
    lone = {name for name in found if name.removeprefix("embeddings") not in suffixes}
    lone -= {f"crops{suffix}" for suffix in suffixes if f"embeddings{suffix}" in found}
    if lone or not found:
        raise InputError(
            f"expected pairs of crops and embeddings in {where}, found {', '.join(found)}: write "
            "both, with the same suffix"
        )
    return [
        Reference(suffix.removeprefix("_") or "given", found[f"crops{suffix}"], vectors)
        for suffix in sorted(suffixes)
        for vectors in [found[f"embeddings{suffix}"].astype(np.float32)]
    ]


def write_references(references: Sequence[Reference]) -> bytes:
    """Write references as the content of ``reference.npz``; the same arrays, the same bytes."""
    arrays: dict[str, Any] = {}
    for reference in references:
        arrays[f"crops_{reference.what}"] = reference.crops
        arrays[f"embeddings_{reference.what}"] = reference.embeddings
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def worst_parity(figures: Mapping[str, float] | None) -> Parity | None:
    """Find the worst of a card's parity figures; None where there is no original.

    Examples
    --------
    >>> worst_parity({"cosine_random": 0.9999, "max_abs_random": 0.25})
    Parity(cosine=0.9999, max_abs=0.25)
    """
    if not figures:
        return None
    return Parity(
        min(value for name, value in figures.items() if name.startswith("cosine")),
        max(value for name, value in figures.items() if name.startswith("max_abs")),
    )


class _Sessions:
    """Runs a graph on crops of any number of channels, and checks the embeddings' shape."""

    def __init__(self, content: bytes, card: Card, provider: str) -> None:
        self.content, self.card, self.provider = content, card, provider
        self._opened: dict[int, Session] = {}

    def embed(self, crops: Crops) -> Vectors:
        wanted = (len(crops), self.card.width(crops.shape[1]))
        found = self._open(crops).embed(crops)
        if found.shape != wanted:
            raise _refuse(
                self.card, f"embeddings {wanted} for crops {crops.shape}", f"{found.shape}"
            )
        return found

    def _open(self, crops: Crops) -> Session:
        # An engine of TensorRT is of one shape; the others take any.
        key = crops.shape[1] if self.provider == "tensorrt" else 0
        if key not in self._opened:
            self._opened[key] = open_session(
                self.content,
                provider=self.provider,
                threads=usable_cores(),
                precision=self.card.precision,
                shape=crops.shape[1:],
            )
        return self._opened[key]


def _compare(found: Vectors, card: Card, reference: Reference) -> Parity:
    expected = reference.embeddings
    if found.shape != expected.shape or not np.isfinite(expected).all():
        raise InputError(
            f"expected finite embeddings {found.shape} in the {reference.what} reference of model "
            f"{card.name}, found {expected.shape}, {np.sum(~np.isfinite(expected))} values NaN "
            "or infinite: make the reference anew with the original model"
        )
    parity = Parity.of(found, expected)
    least, most = _LIMITS[card.precision]
    scale = max(1.0, float(np.sqrt(np.mean(np.square(expected, dtype=np.float64)))))
    if parity.cosine < least or parity.max_abs > most * scale:
        raise InputError(
            f"expected model {card.name} ({card.precision}) to give what the original gives on "
            f"{reference.what} crops, cosine at least {least} and no difference above "
            f"{most * scale:.2g}, found cosine {parity.cosine:.6f} and {parity.max_abs:.2g}: "
            "export it anew, or choose a finer precision"
        )
    return parity


def _channel_counts(card: Card) -> tuple[int, ...]:
    if isinstance(card.channels, int):
        return (card.channels,)
    most = card.max_channels or _MANY
    if isinstance(card.channels, tuple):
        most = len(card.channels)
        if not card.free_channels:
            return (most,)
    return tuple(sorted({1, min(_FEW, most), most}))


def _describe(value: onnx.ValueInfoProto) -> tuple[int, tuple[int | str, ...]]:
    """Give a tensor's type and axes; an axis without a fixed size is its name."""
    tensor = value.type.tensor_type
    axes = (
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?"
        for axis in tensor.shape.dim
    )
    return tensor.elem_type, tuple(axes)


def _spell(tensors: list[tuple[int, tuple[int | str, ...]]]) -> str:
    words = [
        f"({', '.join(map(str, axes))}) of {TensorProto.DataType.Name(kind).lower()}"
        for kind, axes in tensors
    ]
    return " and ".join(words) or "none"


def _spell_channels(card: Card) -> str:
    return str(len(card.channels) if isinstance(card.channels, tuple) else card.channels)


def _refuse(card: Card, expected: str, found: str) -> InputError:
    return InputError(
        f"expected model {card.name} to have {expected} as its card says, found {found}: correct "
        "the card, or export the model anew"
    )
