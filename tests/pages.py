"""The how-tos as tests read them: their blocks of code, and a package that one tells to make."""

import re
import tomllib
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def read_blocks(page):
    """Give each block of a page: its language, and its text."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S)


def read_block(page, language):
    """Give the one block of a page in a language."""
    (block,) = [text for found, text in read_blocks(page) if found == language]
    return block


def install_package(site, page, *, module):
    """Install a how-to's package as pip does: its module, and its metadata beside it."""
    info = site / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    project = tomllib.loads(read_block(page, "toml"))["project"]
    (site / f"{module}.py").write_text(read_block(page, "python"))
    name, version = project["name"], project["version"]
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{point} = {value}" for point, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return site
