import json
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points

import numpy as np
import pytest
import tifffile

from phenopipe.ingest.detect import read_layout
from tests.pages import DOCS, install_package, read_block

HOW_TO = "own-layout.md"
LOOK = """
import json, sys
from phenopipe.ingest import read_layout
index = read_layout(sys.argv[1], "auto")
print(json.dumps({
    "layout": index.layout, "reason": index.reason, "plate": index.plate,
    "fields": [str(field) for field in index.fields], "channels": dict(index.channels),
    "missing": index.missing, "ignored": index.ignored, "pixel_size_um": index.pixel_size_um,
}))
"""


@pytest.fixture
def site(tmp_path):
    """Install the how-to's package as pip does: its module, and its metadata beside it."""
    return install_package(tmp_path / "site", HOW_TO, module="bench_layout")


@pytest.fixture
def plate(tmp_path):
    """Write a plate as the how-to describes it, without one image."""
    folder = tmp_path / "P1"
    for well in ("B03", "B04"):
        (folder / well).mkdir(parents=True)
        for field in (0, 1):
            for channel in ("DNA", "Actin"):
                pixels = np.ones((4, 4), "uint16")
                tifffile.imwrite(folder / well / f"f{field}-{channel}.tif", pixels)
    (folder / "B04/f1-DNA.tif").unlink()
    (folder / "notes.txt").touch()
    (folder / "bench.json").write_text(json.dumps({"plate": "P1", "pixel_um": 0.65}))
    return folder


def test_the_how_tos_layout_is_found_once_its_package_is_installed(site, plate):
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(plate)],
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "layout": "bench",
        "reason": "it has a bench.json",
        "plate": "P1",
        "fields": ["B03 field 0", "B03 field 1", "B04 field 0", "B04 field 1"],
        "channels": {"Actin": "Actin", "DNA": "DNA"},
        "missing": ["B04 field 1: no image of DNA"],
        "ignored": [["notes.txt", "not an image"]],
        "pixel_size_um": 0.65,
    }
    assert not [point for point in entry_points(group="phenopipe.layouts") if point.name == "bench"]


def test_the_layout_is_about_40_lines():
    lines = [line for line in read_block(HOW_TO, "python").splitlines() if line.strip()]
    assert len(lines) <= 42


PATTERNS = re.findall(
    r"^\| .*?`([^`|]*)`.* \| `(\(?[^`]*\?P<[^`]*)` \|$", (DOCS / HOW_TO).read_text(), re.M
)


def test_the_how_to_shows_patterns():
    assert len(PATTERNS) == 4


@pytest.mark.parametrize(("example", "pattern"), PATTERNS)
def test_the_how_tos_patterns_fit_their_examples(tmp_path, example, pattern):
    path = tmp_path / ("" if "/" in example else "P1") / example
    path.parent.mkdir(parents=True)
    path.touch()
    plate = next(folder for folder in path.parents if folder.parent == tmp_path)
    index = read_layout(plate, pattern=pattern)
    assert (index.plate, [str(well) for well in index.wells]) == ("P1", ["B03"])
