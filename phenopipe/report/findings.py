"""What the map shows, in numbers and sentences: the page's cards, captions and tables."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from phenopipe.report.figures import Pair, arm_order
from phenopipe.report.plates import Plate
from phenopipe.report.sources import MapFacts
from phenopipe.report.words import DASH, count, decimals, read_score, share

RECALL = "relationship_recall"
BIAS = "proximity_bias"


@dataclass(frozen=True)
class Card:
    """One headline result."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Arm:
    """One arm, and whether it was corrected."""

    name: str
    n_genes: int
    n_reference: int
    corrected: bool
    why: str


@dataclass(frozen=True)
class Totals:
    """How much went into the map."""

    plates: int
    wells: int
    fields: int
    kept: int
    crops: int
    perturbations: int

    @property
    def excluded(self) -> int:
        """The fields that were left out."""
        return self.fields - self.kept

    @property
    def counts(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)


def add_up(facts: MapFacts, plates: Sequence[Plate]) -> Totals:
    """Count plates, wells, fields, crops and perturbations."""
    return Totals(
        plates=len(plates),
        wells=sum(plate.n_wells for plate in plates),
        fields=sum(plate.n_fields for plate in plates),
        kept=sum(plate.n_kept for plate in plates),
        crops=sum(plate.n_crops for plate in plates),
        perturbations=facts.dataset.sizes["perturbation"],
    )


def list_arms(facts: MapFacts) -> list[Arm]:
    """List the arms in the chromosomes' order."""
    arms = [
        Arm(
            name=str(entry["arm"]),
            n_genes=int(entry["n_genes"]),
            n_reference=int(entry["n_reference"]),
            corrected=bool(entry["corrected"]),
            why=str(entry.get("why") or ""),
        )
        for entry in facts.records("arms")
    ]
    return sorted(arms, key=lambda arm: arm_order(arm.name))


def left_alone(arms: Sequence[Arm]) -> set[str]:
    """Name the arms that a correction passed over; none where nothing was corrected."""
    left = {arm.name for arm in arms if not arm.corrected}
    return left if len(left) < len(arms) else set()


def headline(
    totals: Totals, recall: Sequence[Pair], genome: Pair | None, arms: Sequence[Arm], n_links: int
) -> list[Card]:
    """Choose the five results that a reader should see first."""
    return [
        _recall_card(recall),
        _bias_card(genome),
        _arms_card(arms),
        Card(
            "Fields excluded",
            count(totals.excluded),
            f"of {count(totals.fields)} ({share(totals.excluded, totals.fields)})",
        ),
        Card("Related pairs", count(n_links), "among nearest neighbours, at FDR ≤ 5%"),
    ]


def _recall_card(recall: Sequence[Pair]) -> Card:
    scored = [(pair.after or pair.before, pair.source) for pair in recall]
    best = max(((x, s) for x, s in scored if x), key=lambda entry: entry[0].n, default=None)
    if best is None:
        return Card("Relationship recall", DASH, "not measured")
    score, source = best
    span = f"[{decimals(score.low)}, {decimals(score.high)}]"
    times = f"{decimals(score.ratio, 1)}\N{MULTIPLICATION SIGN}"
    note = f"{span}, {times} chance ({decimals(score.null)}), on {source}"
    return Card("Relationship recall", decimals(score.value), note)


def _bias_card(genome: Pair | None) -> Card:
    label = "Proximity bias: P(within > between)"
    last = (genome.after or genome.before) if genome else None
    if genome is None or last is None:
        return Card(label, DASH, "not measured")
    both = genome.before and genome.after
    value = " → ".join(decimals(score.value) for _, score in genome.scores)
    note = f"shuffled arms: {last.band}" if last.band else "0.50 is no bias"
    return Card(label, value, f"{'before → after; ' if both else ''}{note}")


def _arms_card(arms: Sequence[Arm]) -> Card:
    done = sum(arm.corrected for arm in arms)
    left = [arm.name for arm in arms if not arm.corrected]
    if not arms:
        return Card("Arms corrected", DASH, "the map names no arms")
    if not done:
        return Card("Arms corrected", f"0 of {len(arms)}", "no arm was corrected")
    shown = ", ".join(left[:4]) + (" …" if len(left) > 4 else "")
    return Card("Arms corrected", f"{done} of {len(arms)}", f"left: {shown}" if left else "all")


def list_others(facts: MapFacts) -> list[dict[str, Any]]:
    """List the scores of metrics that have no figure of their own."""
    others = facts.benchmark[~facts.benchmark["metric"].isin([RECALL, BIAS])]
    others = others.sort_values(["metric", "source", "correction"], kind="stable")
    return [
        {name: row[name] for name in ("metric", "source", "correction")}
        | {"score": read_score(row)}
        for _, row in others.iterrows()
    ]


def count_losses(plates: Sequence[Plate]) -> list[dict[str, Any]]:
    """Count what was found at fault by its kind: entries, files, and fields left out."""
    losses = [loss for plate in plates for loss in plate.losses]
    files: Counter[str] = Counter()
    for loss in losses:
        files[loss.verdict] += len(loss.files)
    lost = {(x.verdict, x.plate, x.well, x.field) for x in losses if x.field and not x.kept}
    fields = Counter(verdict for verdict, *_ in lost)
    return [
        {
            "verdict": verdict,
            "files": files[verdict],
            "fields": fields[verdict],
            "losses": [loss for loss in losses if loss.verdict == verdict],
        }
        for verdict in sorted({loss.verdict for loss in losses})
    ]
