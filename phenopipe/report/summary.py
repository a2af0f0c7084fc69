"""A map's results in five lines, for the terminal."""

import pandas as pd

from phenopipe.lake import Lake, map_part
from phenopipe.report.figures import Pair, pair_scores
from phenopipe.report.findings import BIAS, RECALL
from phenopipe.report.neighbours import strongest_links
from phenopipe.report.sources import MapFacts, read_facts, trace_map
from phenopipe.report.words import count


def summarise_map(lake: Lake, name: str) -> list[str]:
    """Tell the report's path, then five lines: size, recall, bias, exclusions, strongest pair.

    Raises
    ------
    InputError
        If the map, its benchmark or its report is not published.
    """
    thing = map_part(name, "report.html")
    report = lake.require(
        thing, remedy=f"run `phenopipe benchmark --root {lake.root} --map {name}`"
    )
    facts = read_facts(lake, trace_map(lake, name))
    return [
        f"Report: {lake.path(thing)}",
        _tell_size(report.counts),
        *(_tell_recall(pair) for pair in pair_scores(facts.benchmark, RECALL)[:1]),
        *(
            _tell_bias(pair)
            for pair in pair_scores(facts.benchmark, BIAS)
            if pair.source == "genome"
        ),
        _tell_exclusions(facts, report.counts),
        *_tell_strongest(facts),
    ]


def _tell_size(counts: dict[str, int]) -> str:
    names = ("plates", "wells", "fields", "crops", "perturbations")
    return "Map: " + ", ".join(f"{counts[name]:,} {name}" for name in names)


def _tell_recall(pair: Pair) -> str:
    best = pair.after or pair.before
    chance = f"; chance {best.null:.2f}, {best.ratio:.1f}\N{MULTIPLICATION SIGN}" if best else ""
    return f"Relationship recall ({pair.source}): {_tell_sides(pair)}{chance}"


def _tell_bias(pair: Pair) -> str:
    best = pair.after or pair.before
    band = f"; shuffled arms {best.band}" if best and best.band else ""
    return f"Proximity bias, P(within > between arms): {_tell_sides(pair)}{band}"


def _tell_sides(pair: Pair) -> str:
    return ", ".join(f"{score.interval} {side} correction" for side, score in pair.scores)


def _tell_exclusions(facts: MapFacts, counts: dict[str, int]) -> str:
    ledgers = pd.concat([plate.ledger.assign(plate=str(plate.key)) for plate in facts.plates])
    faulty = ledgers[~ledgers["verdict"].isin(["ok", "ignored"]) & ledgers["field"].notna()]
    fields = faulty.drop_duplicates(["plate", "well", "field", "verdict"])["verdict"]
    kinds = ", ".join(f"{n} {kind}" for kind, n in fields.value_counts().sort_index().items())
    excluded = count(counts["fields"] - counts["kept"], "field")
    return f"Excluded: {excluded}" + (f" ({kinds.replace('_', ' ')})" if kinds else "")


def _tell_strongest(facts: MapFacts) -> list[str]:
    names = facts.dataset["perturbation"].to_numpy()
    links = strongest_links(facts.neighbours, dict.fromkeys(names, ""))
    return [
        f"Strongest pair: {link.first} and {link.second}, cosine {link.cosine}"
        for link in links[:1]
    ]
