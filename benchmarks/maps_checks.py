"""Whether two contenders of the map benchmark found the same: stop where they did not.

Each check reads what both have kept of a step, and says in a line how far they are apart.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.maps_ours import name_bias
from benchmarks.maps_screen import Screen
from phenopipe.maps import proximity_bias

# The largest difference that is let pass: of cosines, and of what is computed from the same rows.
COSINES = 1e-5
EXACT = 1e-9
# Similarities that copairs rounds to float32 may change places where they are next to equal.
PRECISION = 1e-4
# The square root of its floor of 1e-8: what geomloss takes for the distance of a row to itself.
_OWN_DISTANCE = 1e-4
_ROWS = 2000


def check_cosines(step: str, ours: Path, theirs: Path) -> str:
    """Compare the cosines of the first rows: a component's sign is anyone's choice."""
    own, peer = (np.load(out / f"{step}.npy", mmap_mode="r")[:_ROWS] for out in (ours, theirs))
    if own.shape != peer.shape:
        raise SystemExit(f"{step}: expected {peer.shape} as the peer, found {own.shape}")
    worst = float(np.abs(_cosines(own) - _cosines(peer)).max())
    return _tell(step, worst, COSINES, of=f"cosines of {len(own)} rows")


def check_recall(ours: Path, theirs: Path) -> str:
    """Compare recall a source, to the last digit."""
    pairs = _join("recall", ours, theirs)
    different = pairs[pairs["value"] != pairs["value_theirs"]]
    if len(different):
        raise SystemExit(f"recall: not the same to the last digit:\n{different}")
    return f"recall: {len(pairs)} sources, each the same to the last digit"


def score_bias(screen: Screen, genes: Path, out: Path) -> None:
    """Compute Brunner-Munzel's test from the same genes' rows as the peers.

    A p-value of 1e-300 moves by 1e-6 of itself where cosines move by 1e-10, which is how far
    phenopipe's own rows are from the peer's: each has rounded its wells to float32.
    """
    found = proximity_bias(np.load(genes / "aggregate.npy"), screen.genes["arm"].to_numpy())
    out.mkdir(exist_ok=True)
    name_bias(found).to_parquet(out / "bias.parquet")


def check_bias(ours: Path, theirs: Path) -> str:
    """Compare Brunner-Munzel's statistic, probability and p-value, of the rows that both have.

    proxbias' genome takes each pair between arms twice: only its probability can be compared.
    """
    pairs = _join("bias", ours, theirs)
    arms = pairs[pairs["key"] != "genome"]
    worst = max(_relative(arms, name) for name in ("value", "statistic", "p_value"))
    worst = max(worst, _relative(pairs, "value"))
    return _tell("bias", worst, EXACT, of=f"{len(arms)} arms and the genome's probability")


def check_genome(ours: Path, theirs: Path) -> str:
    """Compare Brunner-Munzel of the whole genome, each pair once."""
    pairs = _join("bias", ours, theirs)
    worst = max(_relative(pairs, name) for name in ("value", "statistic", "p_value"))
    return _tell("bias", worst, EXACT, of="the genome's statistic and p-value")


def check_consistency(ours: Path, theirs: Path) -> str:
    """Compare mean cosines and their p-values gene by gene."""
    known = _scored("consistency", ours, theirs)
    told = _tell("consistency", _scaled(known, "value"), EXACT, of=f"{len(known)} genes")
    return f"{told}; {_tell('p-values', _scaled(known, 'p_value'), EXACT, of='they')}"


def check_magnitude(ours: Path, theirs: Path, *, n_controls: int, n_null: int) -> str:
    """Compare energy distances and their p-values gene by gene.

    geomloss never takes a root of less than 1e-8, so that to it a row is 1e-4 away from itself:
    that much, by the number of rows, is added to its distances before they are compared. Genes
    with 13 and with 14 wells are moved differently, so one of the null's may change sides.
    """
    known = _scored("magnitude", ours, theirs)
    floor = _OWN_DISTANCE * (1 / known["n"] + 1 / n_controls)
    known = known.assign(value_theirs=known["value_theirs"] + floor)
    told = _tell("magnitude", _scaled(known, "value"), EXACT, of=f"{len(known)} genes")
    moved = (known["p_value"] - known["p_value_theirs"]).abs()
    if not (moved < 1.5 / n_null).all():
        raise SystemExit(f"magnitude: p-values differ by up to {moved.max():.3g}")
    return f"{told}; {int((moved > EXACT).sum())} p-values differ, by one gene of {n_null}"


def check_replicates(ours: Path, theirs: Path) -> str:
    """Compare mean average precision gene by gene; p-values come from other permutations."""
    pairs = _join("replicates", ours, theirs)
    return _tell("replicates", _scaled(pairs, "value"), PRECISION, of=f"{len(pairs)} genes")


def _cosines(rows: np.ndarray) -> np.ndarray:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit @ unit.T


def _join(step: str, ours: Path, theirs: Path) -> pd.DataFrame:
    """Put both beside each other, by what the peer has."""
    own, peer = (pd.read_parquet(out / f"{step}.parquet") for out in (ours, theirs))
    pairs = own.merge(peer, on="key", how="right", suffixes=("", "_theirs"), indicator=True)
    lacking = pairs["key"][pairs["_merge"] == "right_only"].tolist()
    if lacking or not len(pairs):
        raise SystemExit(f"{step}: expected a row each for the peer's, found none for {lacking}")
    return pairs


def _scored(step: str, ours: Path, theirs: Path) -> pd.DataFrame:
    """Put both beside each other where the peer has a score; ours must be there too."""
    pairs = _join(step, ours, theirs)
    missing = pairs["key"][pairs["value"].isna() & pairs["value_theirs"].notna()].tolist()
    if missing:
        raise SystemExit(f"{step}: the peer scores {len(missing)} genes more: {missing[:5]}")
    return pairs.dropna(subset=["value_theirs"])


def _relative(pairs: pd.DataFrame, name: str) -> float:
    """Give the largest difference by the peer's own value."""
    theirs = pairs[f"{name}_theirs"].abs().clip(lower=np.finfo(float).tiny)
    return float(((pairs[name] - pairs[f"{name}_theirs"]).abs() / theirs).max(skipna=False))


def _scaled(pairs: pd.DataFrame, name: str) -> float:
    """Give the largest difference by 1 + the peer's value: a mean cosine may be next to nothing."""
    theirs = pairs[f"{name}_theirs"]
    return float(((pairs[name] - theirs).abs() / (1 + theirs.abs())).max(skipna=False))


def _tell(step: str, worst: float, most: float, *, of: str) -> str:
    if not worst <= most:
        raise SystemExit(f"{step}: {of} differ by up to {worst:.3g}, not {most:g}")
    return f"{step}: {of} differ by {worst:.1e} at most"
