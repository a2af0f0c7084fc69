"""The stage that writes a map's report."""

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from phenopipe.compute import Progress
from phenopipe.lake import Lake, MapRef, Recipe, map_part
from phenopipe.report import figures, findings, neighbours, plates, words
from phenopipe.report.figures import Pair
from phenopipe.report.sources import MapFacts, read_facts, trace_map

STAGE_VERSION = 1

# The map's attributes that the page tells as they are.
ATTRIBUTES = ("model", "align", "correct", "components", "aggregate", "guides")


def write_report(lake: Lake, name: str, *, on_progress: Progress | None = None) -> MapRef:
    """Publish a map's report: ``maps/<name>/report.html``, one page that loads nothing else.

    The page is made from the lake alone: the map, its neighbours and benchmark, and the QC
    tables and ledgers of its plates. The same things give the same bytes; no time of day is in
    it. Returns at once where the published report was made from these very things.

    Parameters
    ----------
    lake
        Where the map is published.
    name
        The map's name.
    on_progress
        Called with the number of plates read, and of all plates.

    Returns
    -------
    MapRef
        What was published; counts of plates, wells, fields, crops, perturbations and bytes.

    Raises
    ------
    InputError
        If the map, its benchmark, or a plate's table is not published, or was published anew
        since the next thing was made from it.
    """
    trace = trace_map(lake, name)
    thing = map_part(name, "report.html")
    recipe = Recipe("report", STAGE_VERSION, trace.inputs, {})
    if published := lake.current(thing, recipe):
        return MapRef.of(name, published, computed=False)
    started = datetime.now(UTC)
    with lake.writing(thing):
        facts = read_facts(lake, trace, on_progress=on_progress)
        drawn = plates.draw_plates(facts.plates)
        page = render_page(facts, drawn).encode()
        with lake.draft(thing) as path:
            path.write_bytes(page)
        counts = {**findings.add_up(facts, drawn).counts, "bytes": len(page)}
        manifest = lake.publish(thing, recipe, counts=counts, started=started)
    return MapRef.of(name, manifest, computed=True)


def render_page(facts: MapFacts, drawn: Sequence[plates.Plate]) -> str:
    """Render the page of a map and its drawn plates."""
    environment = _environment()
    script = _text("page.js")
    return environment.get_template("page.html.j2").render(
        css=Markup(_text("page.css")),  # noqa: S704, the package's own file
        script=Markup(script),  # noqa: S704, the package's own file
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **_describe_map(facts, drawn),
        **_describe_scores(facts),
        **_describe_plates(facts, drawn),
        **_describe_neighbours(facts),
        **_describe_making(facts),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("phenopipe.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": words.count, "decimals": words.decimals, "small": words.small}
    environment.globals |= {"share": words.share}
    return environment


def _text(name: str) -> str:
    """Read one of the package's files as it stands, without its last line break."""
    path = resources.files("phenopipe.report") / "templates" / name
    return path.read_text(encoding="utf-8").rstrip("\n")


def _describe_map(facts: MapFacts, drawn: Sequence[plates.Plate]) -> dict[str, Any]:
    totals, arms = findings.add_up(facts, drawn), findings.list_arms(facts)
    recall = figures.pair_scores(facts.benchmark, findings.RECALL)
    n_links = neighbours.count_links(facts.neighbours)
    return {
        "name": facts.trace.name,
        "attributes": {name: facts.text(name) for name in ATTRIBUTES},
        "experiments": sorted({key.experiment for key in facts.trace.plates}),
        "totals": totals,
        "arms": arms,
        "left_alone": findings.left_alone(arms),
        "cards": findings.headline(totals, recall, _genome(facts), arms, n_links),
    }


def _genome(facts: MapFacts) -> Pair | None:
    pairs = figures.pair_scores(facts.benchmark, findings.BIAS)
    return next((pair for pair in pairs if pair.source == "genome"), None)


def _describe_scores(facts: MapFacts) -> dict[str, Any]:
    recall = figures.pair_scores(facts.benchmark, findings.RECALL)
    bias = figures.order_bias(facts.benchmark)
    corrected = facts.text("correct") != "none"
    heatmaps = figures.draw_heatmaps(facts.dataset, corrected=corrected)
    chance = next((score.null for pair in recall for _, score in pair.scores), 0.1)
    genome = _genome(facts)
    return {
        "corrected": corrected,
        "recall": recall,
        "chance": chance,
        "recall_axis": figures.fit_axis(recall, hold=(0.0, chance), start=190, end=720),
        "recall_told": [words.tell_recall(p.source, p.before, p.after) for p in recall],
        "others": findings.list_others(facts),
        "bias": bias,
        "bias_axis": figures.fit_axis(bias, hold=(0.45, 0.55), start=250, end=16),
        "bias_told": words.tell_bias(*((genome.before, genome.after) if genome else (None, None))),
        "heatmaps": heatmaps,
        "diverging": figures.colour_stops(figures.DIVERGING),
    }


def _describe_plates(facts: MapFacts, drawn: Sequence[plates.Plate]) -> dict[str, Any]:
    return {
        "plates": drawn,
        "states": plates.count_states(drawn),
        "most_cells": drawn[0].most_cells if drawn else 0.0,
        "focus_range": plates.FOCUS_RANGE,
        "sequential": figures.colour_stops(plates.SEQUENTIAL),
        "losses": findings.count_losses(drawn),
        "ignored": sum(int(p.ledger["verdict"].eq("ignored").sum()) for p in facts.plates),
        "exclusions": facts.records("exclusions"),
    }


def _describe_neighbours(facts: MapFacts) -> dict[str, Any]:
    arms = neighbours.arms_by_name(facts.dataset)
    return {
        "links": neighbours.strongest_links(facts.neighbours, arms),
        "index": neighbours.index_neighbours(facts.neighbours, arms),
        "n_nearest": neighbours.N_NEAREST,
    }


def _describe_making(facts: MapFacts) -> dict[str, Any]:
    trace = facts.trace
    made, scored = trace.part("map.zarr"), trace.part("benchmark.parquet")
    embedded = next(iter(trace.embeddings.values()))
    digests = facts.benchmark[["source", "annotation_digest"]].drop_duplicates()
    return {
        "made": made,
        "model_digest": made.model_digest or embedded.model_digest or "",
        "keys": sorted((trace.inputs | trace.embedded).items()),
        "parameters": [
            ("map", json.dumps(made.parameters, indent=1, sort_keys=True)),
            ("embeddings", json.dumps(embedded.parameters, indent=1, sort_keys=True)),
            ("benchmark", json.dumps(scored.parameters, indent=1, sort_keys=True)),
        ],
        "annotations": sorted(
            (row.source, row.annotation_digest)
            for row in digests.itertuples()
            if row.annotation_digest
        ),
    }
