"""Turn a torch model of crops into the ONNX graph that a lake keeps."""

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, Literal

import onnx

from phenopipe.errors import InputError
from phenopipe.models.crop_model import PRECISIONS, CropModel, Standardise, Tensor, nn, torch
from phenopipe.models.vit import VitEncoder
from phenopipe.models.vit_graph import OPSET, build_vit_graph

DTYPES = {"uint8": torch.uint8, "uint16": torch.uint16}


def export_onnx(
    module: CropModel,
    *,
    dtype: str = "uint16",
    channels: int | Literal["any"],
    crop: int,
    precision: str = "fp32",
) -> bytes:
    """Export a model as ONNX: ``crops`` (n, c, crop, crop) to ``embedding`` (n, d) float32.

    The number of crops is free, and that of channels where these are ``any``. Models of the
    family of :mod:`phenopipe.models.vit` are written op by op; any other module is traced by
    ``torch.onnx.export`` (pip install 'phenopipe[train]').

    Parameters
    ----------
    module
        What is done to the counts, and the encoder.
    dtype
        ``uint16`` or ``uint8``: of the plates' pixels. The counts are taken as they are.
    channels, crop
        Of the crops: their number of channels or ``any``, and their side in pixels.
    precision
        Of the encoder: ``fp32``, ``fp16`` or ``bf16``. Pixels are standardised, and the
        embedding is given, in float32.

    Raises
    ------
    InputError
        If the module does not take such crops, or cannot be traced.

    Examples
    --------
    >>> from phenopipe.models.vit import build_vit
    >>> model = build_vit("small", channels="any", crop=32, seed=1)
    >>> content = export_onnx(model, channels="any", crop=32)
    >>> [node.op_type for node in onnx.load_from_string(content).graph.node].count("Attention")
    12
    """
    _check_choice("dtype", dtype, DTYPES)
    _check_choice("precision", precision, PRECISIONS)
    encoder, preprocessing = module.encoder, module.preprocessing
    if isinstance(encoder, VitEncoder) and isinstance(preprocessing, Standardise):
        _check_encoder(encoder, channels=channels, crop=crop)
        model = build_vit_graph(preprocessing, encoder, dtype=dtype, precision=precision)
    else:
        traced = copy.deepcopy(module).eval()
        traced.encoder.to(PRECISIONS[precision])
        model = _trace(traced, dtype=dtype, channels=channels, crop=crop)
    return bytes(model.SerializeToString(deterministic=True))


def _check_choice(name: str, found: str, choices: dict[str, Any]) -> None:
    if found not in choices:
        raise InputError(f"expected {name} among {', '.join(choices)}, found {found!r}")


def _check_encoder(encoder: VitEncoder, *, channels: int | str, crop: int) -> None:
    if (encoder.channels, encoder.crop) != (channels, crop):
        raise InputError(
            f"expected channels {encoder.channels} and crops of {encoder.crop} px, for which the "
            f"encoder was made, found {channels} and {crop}: its positions fit no other"
        )


def _trace(module: CropModel, *, dtype: str, channels: int | str, crop: int) -> onnx.ModelProto:
    any_channels = channels == "any"
    # Two of each free dimension: torch takes 1 for a fixed one.
    example = torch.zeros(2, 2 if any_channels else int(channels), crop, crop, dtype=DTYPES[dtype])
    free: dict[int, Any] = {0: torch.export.Dim.DYNAMIC}
    if any_channels:
        free[1] = torch.export.Dim.DYNAMIC
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                _OfPixels(module),
                (example,),
                input_names=["crops"],
                output_names=["embedding"],
                dynamic_shapes=(free,),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        raise InputError(
            f"expected a module that torch.onnx.export can trace with {channels} channels and "
            f"crops of {crop} px, found {type(error).__name__}: {error}"
        ) from error
    return _tidy(program.model_proto, module.encoder)


class _OfPixels(nn.Module):
    def __init__(self, model: CropModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, crops: Tensor) -> Tensor:
        found: Tensor = self.model(crops.float())
        return found


def _tidy(model: onnx.ModelProto, encoder: nn.Module) -> onnx.ModelProto:
    """Check the output, and take out what the tracer wrote about this machine's source files."""
    rank = len(model.graph.output[0].type.tensor_type.shape.dim)
    if rank != 2:
        raise InputError(
            f"expected embeddings (n, d) from {type(encoder).__name__}, found {rank} dimensions: "
            "pool its tokens (timm: num_classes=0)"
        )
    graph = model.graph
    tensors = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (model, graph, *graph.node, *tensors):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tracer's progress and advice to its own developers from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
