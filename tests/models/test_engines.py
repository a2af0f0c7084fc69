from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Recipe
from phenopipe.models import build_classical, open_session
from phenopipe.models.engines import check_shape, fix_shape, share_engine

CONTENT = build_classical().SerializeToString()
RECIPE = Recipe(
    "engines",
    1,
    {},
    {"precision": "fp32", "shape": [64, 6, 80, 80], "device": "NVIDIA H100 80GB HBM3, 9.0"},
    model_digest="ab" * 32,
)
PLACE = "engines/abababababababab/NVIDIA-H100-80GB-HBM3-9.0/fp32-64x6x80x80"


class Builder:
    """Opens a session that keeps a file in the folder, as TensorRT keeps its engines."""

    def __init__(self):
        self.built = 0

    def __call__(self, folder):
        engine = folder / "classical.engine"
        if not engine.exists():
            self.built += 1
            engine.write_text(f"build {self.built}")
        return open_session(CONTENT), engine.read_text()


def test_an_engine_is_built_once_and_shared(tmp_path):
    lake, build = Lake(tmp_path), Builder()
    told = [share_engine(Lake(tmp_path), RECIPE, build=build)[1] for _ in range(3)]
    assert (told, build.built) == (["build 1"] * 3, 1)
    assert [str(thing) for thing in lake.published("engines")] == [PLACE]


def test_workers_that_start_together_share_one_build(tmp_path):
    build = Builder()
    with ThreadPoolExecutor(4) as pool:
        opened = pool.map(lambda _: share_engine(Lake(tmp_path), RECIPE, build=build), range(4))
        assert {told for _, told in opened} == {"build 1"}


def test_an_engine_of_another_runtime_is_built_anew(tmp_path):
    build = Builder()
    share_engine(Lake(tmp_path), RECIPE, build=build)
    newer = replace(RECIPE, parameters={**RECIPE.parameters, "runtime": "onnxruntime 2.0"})
    assert share_engine(Lake(tmp_path), newer, build=build)[1] == "build 2"


def test_what_the_runtime_writes_later_does_not_reach_the_lake(tmp_path):
    share_engine(Lake(tmp_path), RECIPE, build=Builder())

    def spoil(folder):
        (folder / "classical.engine").write_text("other")

    share_engine(Lake(tmp_path), RECIPE, build=spoil)
    assert (tmp_path / PLACE / "classical.engine").read_text() == "build 1"


def test_the_shape_is_fixed_in_the_graph():
    options = onnxruntime.SessionOptions()
    fix_shape(options, CONTENT, (4, 6, 80, 80))
    runtime = onnxruntime.InferenceSession(CONTENT, options, ["CPUExecutionProvider"])
    assert runtime.get_inputs()[0].shape == [4, 6, 80, 80]
    crops = np.ones((4, 6, 80, 80), np.uint16)
    np.testing.assert_array_equal(
        runtime.run(None, {"crops": crops})[0], open_session(CONTENT).embed(crops)
    )


def test_an_engine_of_no_shape_is_refused():
    with pytest.raises(InputError, match=r"expected the shape \(c, y, x\) of a crop"):
        check_shape(None)
