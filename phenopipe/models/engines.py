"""TensorRT's engines: built once for a model, GPU and shape, then shared through the lake.

A build times the kernels and keeps the fastest of the day, so two builds may give other bits. All
workers on one kind of GPU therefore run one published engine. TensorRT writes to a local folder:
each worker has a copy of its own.
"""

import re
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import onnx

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Recipe, Thing, engine_folder
from phenopipe.models.providers import describe_device

STAGE_VERSION = 1

S = TypeVar("S")


def check_shape(shape: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """Check that the shape of a crop is known.

    Raises
    ------
    InputError
        If it is None.
    """
    if shape is None:
        raise InputError(
            "expected the shape (c, y, x) of a crop for TensorRT, found none: give open_session "
            "the shape, for an engine is built for one"
        )
    return shape


def fix_shape(options: Any, model: Path | bytes, shape: tuple[int, ...]) -> None:
    """Set the free dimensions of the crops in a session's options.

    With all of them fixed, TensorRT builds its engine when the session is made, and ONNX Runtime
    computes the shapes inside beforehand.
    """
    graph = onnx.load_model_from_string(model) if isinstance(model, bytes) else onnx.load(model)
    axes = graph.graph.input[0].type.tensor_type.shape.dim
    for axis, length in zip(axes, shape, strict=True):
        if axis.dim_param:
            options.add_free_dimension_override_by_name(axis.dim_param, length)


def engine_recipe(digest: str, *, precision: str, shape: tuple[int, ...]) -> Recipe:
    """Tell what determines an engine: model, precision, shape ``(n, c, y, x)``, GPU and runtime."""
    parameters = {
        "precision": precision,
        "shape": list(shape),
        **describe_device("tensorrt"),
    }
    return Recipe("engines", STAGE_VERSION, {}, parameters, model_digest=digest)


def share_engine(lake: Lake, recipe: Recipe, *, build: Callable[[Path], S]) -> S:
    """Load an engine from the lake; build and publish it where there is none yet.

    Parameters
    ----------
    build
        Makes a session whose engines are read from a folder, or built into it if there are none.

    Raises
    ------
    InputError
        If another run is publishing it and was cut off meanwhile.
    """
    engine = _name_engine(recipe)
    with tempfile.TemporaryDirectory(prefix="phenopipe-engine-") as local:
        folder = Path(local)
        if not _fetch(lake, engine, recipe, folder):
            # Workers that start side by side need the same engine: one builds, the others wait.
            with lake.try_lock(Thing(f"{engine.path}.turn"), wait=True):
                if not _fetch(lake, engine, recipe, folder):
                    started = datetime.now(UTC)
                    session = build(folder)
                    _publish(lake, engine, recipe, folder, started=started)
                    return session
        return build(folder)


def _name_engine(recipe: Recipe) -> Thing:
    settings = recipe.parameters
    gpu = re.sub(r"[^A-Za-z0-9.]+", "-", str(settings["device"]))
    shape = "x".join(str(length) for length in settings["shape"])
    digest = recipe.model_digest or ""
    return engine_folder(digest[:16], gpu, f"{settings['precision']}-{shape}")


def _fetch(lake: Lake, engine: Thing, recipe: Recipe, folder: Path) -> bool:
    if not lake.is_current(engine, recipe):
        return False
    with lake.fetched(engine) as published:
        shutil.copytree(published, folder, dirs_exist_ok=True)
    return True


def _publish(lake: Lake, engine: Thing, recipe: Recipe, folder: Path, *, started: datetime) -> None:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    with lake.writing(engine):
        with lake.draft(engine) as draft:
            shutil.copytree(folder, draft)
        lake.publish(engine, recipe, counts={"files": len(files)}, started=started)
