"""Write down what is true of a screen: its platemap, genes, pairs and bad files."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from phenopipe.simulate.design import CHANNELS
from phenopipe.simulate.library import POSITIVE_CONTROL, Gene, list_genes, seeded
from phenopipe.simulate.phenotypes import TRAITS
from phenopipe.simulate.plan import Screen
from phenopipe.simulate.tables import write_csv
from phenopipe.simulate.vendors import VENDORS

# Stands in the truth's folder from the start until the screen is complete.
TRUTH_DRAFT = "truth.draft"

_BAD_COLUMNS = ["experiment", "plate", "well", "field", "path", "kind"]


def write_truth(root: Path, screen: Screen) -> None:
    """Write the platemap and the truth; ``truth.json`` last, in one step."""
    genes, truth = list_genes(screen.wells), root / "truth"
    zfpkm = _draw_zfpkm(genes, screen.seed)
    vendor = VENDORS[screen.layout]
    vendor.write_platemap(root, _platemap_rows(screen, zfpkm))
    write_csv(truth / "genes.csv", _gene_rows(genes, zfpkm))
    faults = ((key, fault) for key in screen.keys for fault in screen.faults(key))
    bad = [row for key, fault in faults for row in fault.list_rows(key, vendor.name_image)]
    write_csv(truth / "bad_files.csv", bad, columns=_BAD_COLUMNS)
    (truth / "annotations").mkdir(exist_ok=True)
    write_csv(truth / "annotations" / "pathways.txt", _pathway_rows(genes))
    draft = truth / TRUTH_DRAFT
    draft.write_text(json.dumps(_describe(screen, genes), indent=2) + "\n", encoding="utf-8")
    draft.replace(truth / "truth.json")


def _describe(screen: Screen, genes: Sequence[Gene]) -> dict[str, object]:
    pathways = sorted({gene.pathway for gene in genes} - {""})
    arms = sorted({gene.arm for gene in genes})
    return {
        **screen.describe(),
        "batches": {str(key): key.experiment for key in screen.keys},
        "channels": CHANNELS,
        "traits": TRAITS,
        "pathways": {name: [g.symbol for g in genes if g.pathway == name] for name in pathways},
        "arms": {name: [g.symbol for g in genes if g.arm == name] for name in arms},
    }


def _pathway_rows(genes: Sequence[Gene]) -> list[dict[str, object]]:
    pairs = combinations([gene for gene in genes if gene.pathway], 2)
    return [
        {"entity1": first.symbol, "entity2": second.symbol}
        for first, second in pairs
        if first.pathway == second.pathway
    ]


def _draw_zfpkm(genes: Iterable[Gene], seed: int) -> dict[str, float]:
    """Draw expression: silent genes from -6 to -3.5, the others from -1 to 2."""
    drawn = {POSITIVE_CONTROL: 0.5}
    for gene in genes:
        low, high = (-6.0, -3.5) if gene.unexpressed else (-1.0, 2.0)
        drawn[gene.symbol] = round(seeded(seed, "zfpkm", gene.symbol).uniform(low, high), 3)
    return drawn


def _platemap_rows(screen: Screen, zfpkm: Mapping[str, float]) -> list[dict[str, object]]:
    return [
        {
            "experiment": key.experiment,
            "plate": key.plate,
            "well": str(well),
            "perturbation": done.name,
            "perturbation_type": done.perturbation_type,
            "gene": done.gene,
            "guide": done.guide,
            "compound": "",
            "concentration_um": "",
            "control_type": done.control_type,
            "zfpkm": zfpkm.get(done.gene, ""),
        }
        for key in screen.keys
        for well, done in screen.place(key).items()
    ]


def _gene_rows(genes: Iterable[Gene], zfpkm: Mapping[str, float]) -> list[dict[str, object]]:
    return [
        {
            "gene": gene.symbol,
            "arm": gene.arm,
            "pathway": gene.pathway,
            "unexpressed": str(gene.unexpressed).lower(),
            "zfpkm": zfpkm[gene.symbol],
        }
        for gene in genes
    ]
