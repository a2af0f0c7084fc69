"""Draw a screen of wells for the map benchmarks: real genes, seeded vectors.

A vector is its batch's shift and scale, its gene's effect and noise, all of one covariance whose
variances fall over three decades, as an embedding's do. A gene's effect is its own, its family's
(genes whose symbols start alike, RPL3 and RPL4, which are often in one complex) and its arm's;
unexpressed genes have their arm's alone. So relations are recalled, and arms are biased.
"""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.maps_screen import CONTROL, SOURCES, Screen
from phenopipe.digests import digest_file
from phenopipe.genome import chromosome_arms

WIDTH = 384
WELLS_A_BATCH = 1000
WELLS_A_GENE = 15  # a tenth of all wells are controls, so a gene has 13 or 14
_PLATE_WELLS = 384
_COLUMNS = 24
_CONTROL_SHARE = 0.1
_UNEXPRESSED_SHARE = 0.2
# Effects in units of the noise of one well.
_OWN, _FAMILY, _ARM, _SHIFT, _SCALE = 0.25, 0.25, 0.05, 0.5, 0.1

Floats = NDArray[np.float32]


def draw_screen(folder: Path, annotations: Path, *, wells: int, seed: int = 0) -> Screen:
    """Draw so many wells, or take those that lie there.

    Parameters
    ----------
    annotations
        EFAAR_benchmarking's five tables ``entity1,entity2``. The genes of the screen are those in
        most pairs, so that a small screen has known relations too.
    wells
        60,000 are 60 batches of 1,000 and 4,000 genes; other numbers keep these proportions.
    """
    digests = {source: digest_file(annotations / f"{source}.txt") for source in SOURCES}
    wanted = {"wells": wells, "width": WIDTH, "seed": seed, "annotations": digests}
    said = folder / "drawn.json"
    if not said.is_file() or json.loads(said.read_text()) != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "annotations").mkdir(parents=True)
        for source in SOURCES:
            shutil.copy(annotations / f"{source}.txt", folder / "annotations")
        _write_screen(folder, wells, seed)
        said.write_text(json.dumps(wanted))
    return Screen(folder)


def choose_genes(annotations: Path, n: int) -> list[str]:
    """Choose the genes with a known arm that are in most pairs of all sources, by symbol."""
    counts: Counter[str] = Counter()
    for source in SOURCES:
        pairs = pd.read_csv(annotations / f"{source}.txt", keep_default_na=False)
        counts.update(pairs["entity1"].tolist() + pairs["entity2"].tolist())
    known = chromosome_arms()
    ranked = sorted((-count, gene) for gene, count in counts.items() if gene in known)
    if len(ranked) < n:
        raise SystemExit(f"expected {n} annotated genes with an arm, found {len(ranked)}")
    return sorted(gene for _, gene in ranked[:n])


def list_wells(genes: list[str], *, wells: int, seed: int) -> pd.DataFrame:
    """Put controls and genes on plates: a tenth of each batch are controls, all genes alike."""
    n_batches = max(2, wells // WELLS_A_BATCH)
    batch = np.arange(wells) * n_batches // wells
    place = np.arange(wells) - np.searchsorted(batch, batch)
    number = place % _PLATE_WELLS
    rng = np.random.default_rng([seed, 1])
    order = np.lexsort([rng.random(wells), batch])
    control = np.zeros(wells, dtype=bool)
    control[order] = place < _CONTROL_SHARE * np.bincount(batch)[batch]
    label = np.full(wells, CONTROL, dtype=object)
    shuffled = rng.permutation(wells - control.sum())
    label[~control] = np.array(genes, dtype=object)[shuffled % len(genes)]
    rows, columns = np.divmod(number, _COLUMNS)
    return pd.DataFrame(
        {
            "experiment": [f"E{i + 1:03d}" for i in batch],
            "plate": [f"P{i + 1}" for i in place // _PLATE_WELLS],
            "well": [f"{chr(65 + r)}{c + 1:02d}" for r, c in zip(rows, columns, strict=True)],
            "label": label,
        }
    )


def draw_effects(genes: pd.DataFrame, *, seed: int) -> Floats:
    """Draw each gene's effect (n, d), in units of the noise and before it is mixed."""
    rng = np.random.default_rng([seed, 2])
    expressed = ~genes["unexpressed"].to_numpy()
    effects = _ARM * _share(genes["arm"], rng)
    effects[expressed] += _OWN * rng.standard_normal((int(expressed.sum()), WIDTH))
    effects[expressed] += _FAMILY * _share(genes["gene"].map(name_family), rng)[expressed]
    return effects.astype(np.float32)


def name_family(symbol: str) -> str:
    """Give the letters that a symbol starts with: RPL3 and RPL4 are of the family RPL."""
    found = re.match(r"[A-Z]+", symbol)
    return found.group() if found else symbol


def _share(groups: "pd.Series[str]", rng: np.random.Generator) -> NDArray[np.float64]:
    codes, names = pd.factorize(groups, sort=True)
    return rng.standard_normal((len(names), WIDTH))[codes]


def _write_screen(folder: Path, wells: int, seed: int) -> None:
    names = choose_genes(folder / "annotations", max(20, wells // WELLS_A_GENE))
    silent = np.random.default_rng([seed, 3]).random(len(names)) < _UNEXPRESSED_SHARE
    arms = [chromosome_arms()[name] for name in names]
    genes = pd.DataFrame({"gene": names, "arm": arms, "unexpressed": silent})
    table = list_wells(names, wells=wells, seed=seed)
    genes.to_parquet(folder / "genes.parquet")
    table.to_parquet(folder / "wells.parquet")
    effects = np.vstack([draw_effects(genes, seed=seed), np.zeros((1, WIDTH), np.float32)])
    rows = pd.Index([*names, CONTROL]).get_indexer(pd.Index(table["label"]))
    stored = np.lib.format.open_memmap(
        folder / "vectors.npy", mode="w+", dtype=np.float32, shape=(wells, WIDTH)
    )
    mix = _draw_mix(np.random.default_rng([seed, 4]))
    for number, (_, batch) in enumerate(table.groupby("experiment", sort=False)):
        rng = np.random.default_rng([seed, 5, number])
        inner = effects[rows[batch.index]] + rng.standard_normal((len(batch), WIDTH))
        scale = np.exp(_SCALE * rng.standard_normal(WIDTH))
        stored[batch.index[0] : batch.index[-1] + 1] = (
            (inner * scale + _SHIFT * rng.standard_normal(WIDTH)) @ mix
        )  # fmt: skip
    stored.flush()


def _draw_mix(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the root of a covariance whose variances fall over three decades."""
    turn, _ = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))
    mix: NDArray[np.float64] = np.logspace(0, -1.5, WIDTH)[:, None] * turn
    return mix
