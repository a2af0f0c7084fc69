"""Pages in Prefect's UI: a plate's QC and its picture, a map's scores and its report."""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from phenopipe.ingest import PlateSummary, summarise_plate
from phenopipe.ingest.heatmaps import shrink_heatmaps
from phenopipe.lake import Lake, Thing, heatmaps, ledger, map_part, plate_image, qc_table
from phenopipe.plates import PlateKey
from phenopipe.report import summarise_map
from tasks.labels import artifact_key, artifact_url
from tasks.telling import INCOMPLETE, PUBLISHED, QC_FAILED, emit_plate, is_in_run, tell

_SCORES = ("metric", "source", "correction", "value", "low", "high", "null", "p_value", "n")


def show_plate(lake: Lake, key: PlateKey, *, folder: Path) -> None:
    """Show a plate that was published now from a folder: its QC, its picture, and its events.

    The artifacts' keys are ``qc-<experiment>-<plate>`` and ``heatmap-<experiment>-<plate>``.
    """
    if not is_in_run():
        return
    with tell(f"the QC of {key}"):
        plate = summarise_plate(lake, key)
        create_markdown_artifact(
            describe_plate(lake, key, plate),
            key=artifact_key("qc", key.experiment, key.plate),
            description=f"QC of {key}: {plate.verdict.verdict}",
        )
        emit_plate(PUBLISHED, key, stage="ingest", verdict=plate.verdict.verdict)
        if plate.verdict.verdict == "fail":
            emit_plate(QC_FAILED, key, reason=plate.verdict.reason, fields_failed=plate.failed)
        if plate.missing:
            why = f"published without {plate.missing:,} files that should be there"
            emit_plate(INCOMPLETE, key, folder=str(folder), why=why)
        create_markdown_artifact(
            _show_picture(key, lake.read_bytes(heatmaps(key))),
            key=artifact_key("heatmap", key.experiment, key.plate),
            description=f"QC of {key}, well by well. {link(lake, heatmaps(key), 'Whole picture')}",
        )


def describe_plate(lake: Lake, key: PlateKey, plate: PlateSummary) -> str:
    """Describe a plate's QC in markdown: verdict, wells to look at, channels, and where it lies."""
    picture = artifact_url(artifact_key("heatmap", key.experiment, key.plate))
    lines = [
        f"# {key}: {plate.verdict.verdict}",
        f"{_spell(plate.verdict.reason).capitalize()}." if plate.verdict.reason else "",
        f"{plate.failed:,} of {plate.fields:,} fields failed; {plate.missing:,} files missing.",
        f"[Heatmap]({picture})" if picture else "",
        "## Wells to look at",
        _tabulate(
            [
                {"verdict": verdict, "reason": _spell(reason), "n": len(wells), "wells": wells}
                for (verdict, reason), wells in plate.wells.items()
            ]
        ),
        "## Channels, medians over fields",
        _tabulate(plate.channels),
        "## Where it lies",
        *(f"- {link(lake, thing(key), what)}" for what, thing in _THINGS.items()),
    ]
    return "\n\n".join(line for line in lines if line)


_THINGS = {
    "Plate image (OME-Zarr)": plate_image,
    "Heatmap": heatmaps,
    "QC table": qc_table,
    "Ledger of files": ledger,
}


def show_scores(lake: Lake, name: str) -> None:
    """Show a map's scores: the table ``benchmark-<map>``."""
    if not is_in_run():
        return
    with tell(f"the scores of {name}"):
        with lake.fetched(map_part(name, "benchmark.parquet")) as path:
            rows = pq.read_table(path, columns=list(_SCORES)).to_pylist()
        create_table_artifact(
            [plain_row({column: _round(value) for column, value in row.items()}) for row in rows],
            key=artifact_key("benchmark", name),
            description=f"Scores of map {name}.",
        )


def show_report(lake: Lake, name: str) -> None:
    """Show a map's results in five lines, and where its report lies: ``report-<map>``."""
    if not is_in_run():
        return
    with tell(f"the report of {name}"):
        _, *told = summarise_map(lake, name)
        report = link(lake, map_part(name, "report.html"), "Report")
        create_markdown_artifact(
            "\n".join([f"# Map {name}\n", f"- {report}", *(f"- {escape(line)}" for line in told)]),
            key=artifact_key("report", name),
            description=f"Report of map {name}.",
        )


def link(lake: Lake, thing: Thing, text: str) -> str:
    """Link to a thing in markdown; a page may not open a local file, so that is named."""
    url = lake.link(thing)
    return f"[{text}](<{url}>)" if url.startswith("http") else f"{text}: {escape(lake.path(thing))}"


def escape(text: str) -> str:
    r"""Escape what markdown, or HTML in it, would take for more than text.

    Names of channels and files come from elsewhere, and a page is shown to whoever may read it.

    Examples
    --------
    >>> escape("<b>DNA</b>\n| 40_x")
    '\\<b\\>DNA\\</b\\> \\| 40\\_x'
    """
    return re.sub(r"([\\`*_{}\[\]()<>#!|~&])", r"\\\1", " ".join(text.split()))


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give a row of a table artifact whose text stays text.

    Prefect 3.8's first UI takes a table's cells for markdown, and follows ``javascript:`` links in
    them (tried); its new one shows them as they are, backslashes and all. So what makes links and
    HTML is taken out; a cell that is one link to a page stays.

    Examples
    --------
    >>> plain_row({"what": "expected w1.tif, found [a](javascript:b)", "n": 1})
    {'what': 'expected w1.tif, found [a] (javascript:b)', 'n': 1}
    >>> plain_row({"page": "[QC](http://lab:4200/artifacts/key/qc-a-b)"})["page"]
    '[QC](http://lab:4200/artifacts/key/qc-a-b)'
    """
    return {name: _plain(cell) if isinstance(cell, str) else cell for name, cell in row.items()}


def _plain(text: str) -> str:
    if re.fullmatch(r"\[[^\[\]<]*\]\(https?://[^\s<()]+\)", text):
        return text
    quote = "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}"
    return " ".join(text.split()).replace("](", "] (").replace("<", quote)


def _tabulate(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "None."
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(map(_cell, row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    told = f"{value:,.4g}" if isinstance(value, float) else str(value)
    return "" if value is None else escape(told)


def _round(value: Any) -> Any:
    """Round to three digits; JSON knows no NaN."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.3g}") if math.isfinite(value) else None


def _spell(reason: str) -> str:
    return reason.replace("_", " ").replace(",", ", ")


def _show_picture(key: PlateKey, png: bytes) -> str:
    """Show a picture that lies on the page itself: in Prefect's database, as long as the run."""
    data = base64.b64encode(shrink_heatmaps(png)).decode()
    return f"![{key}](data:image/png;base64,{data})"
