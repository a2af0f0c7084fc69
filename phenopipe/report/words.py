"""Numbers and findings in words."""

import math
from dataclasses import dataclass, fields

import pandas as pd

DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class Score:
    """One row of the benchmark: a metric's value, its interval and its null."""

    value: float
    low: float
    high: float
    null: float
    null_low: float
    null_high: float
    p_value: float
    n: int

    @property
    def ratio(self) -> float:
        """The value as a multiple of the null."""
        return self.value / self.null if self.null else math.nan

    @property
    def interval(self) -> str:
        """The value with its 95% interval: ``0.46 [0.41, 0.51]``."""
        return f"{decimals(self.value)} [{decimals(self.low)}, {decimals(self.high)}]"

    @property
    def band(self) -> str:
        """The null's 95% band: ``0.48`` to ``0.52``; empty where it was not measured."""
        if math.isnan(self.null_low) or math.isnan(self.null_high):
            return ""
        return f"{decimals(self.null_low)}{DASH}{decimals(self.null_high)}"


def pick_score(benchmark: pd.DataFrame, metric: str, source: str, correction: str) -> Score | None:
    """Pick a metric's score; None where it was not measured or came out as no number."""
    chosen = benchmark[
        benchmark["metric"].eq(metric)
        & benchmark["source"].eq(source)
        & benchmark["correction"].eq(correction)
        & benchmark["value"].notna()
    ]
    if chosen.empty:
        return None
    return read_score(chosen.iloc[0])


def read_score(row: pd.Series) -> Score:
    """Read a score from a row of the benchmark."""
    return Score(**{field.name: row[field.name] for field in fields(Score)})


def list_sources(benchmark: pd.DataFrame, metric: str) -> list[str]:
    """List what a metric was measured on, sorted."""
    return sorted(benchmark.loc[benchmark["metric"].eq(metric), "source"].unique())


def decimals(value: float, places: int = 2) -> str:
    """Spell a number with fixed decimals; a dash where there is none.

    Examples
    --------
    >>> decimals(0.456), decimals(float("nan")) == DASH
    ('0.46', True)
    """
    return DASH if math.isnan(value) else f"{value:.{places}f}"


def count(number: int, noun: str = "") -> str:
    """Spell a count with thousands separated, and its noun in the right number.

    Examples
    --------
    >>> count(1234), count(1, "plate"), count(0, "field")
    ('1,234', '1 plate', '0 fields')
    """
    return f"{number:,}" if not noun else f"{number:,} {noun}{'' if number == 1 else 's'}"


def small(value: float) -> str:
    """Spell a p-value or a false discovery rate.

    Examples
    --------
    >>> small(0.0321), small(3.2e-9), small(0.0)
    ('0.032', '3e-09', '<1e-300')
    """
    if math.isnan(value):
        return DASH
    if value <= 0:
        return "<1e-300"
    return f"{value:.2g}" if value >= 0.001 else f"{value:.0e}"


def share(part: int, whole: int) -> str:
    """Spell a share as a percentage.

    Examples
    --------
    >>> share(3, 1536), share(0, 0) == DASH
    ('0.2%', True)
    """
    return f"{100 * part / whole:.1f}%" if whole else DASH


def tell_recall(source: str, before: Score | None, after: Score | None) -> str:
    """State one source's recall in a sentence."""
    best = after or before
    if best is None:
        return f"{source}: not measured."
    side = "after correction" if after else "without correction"
    times = f"{decimals(best.ratio, 1)}\N{MULTIPLICATION SIGN} chance"
    text = f"{source}: recall {best.interval} {side}, {times}"
    if before and after:
        text += f" (before {before.interval})"
    return f"{text}, over {count(best.n, 'known pair')}."


def tell_bias(before: Score | None, after: Score | None) -> str:
    """State the genome's proximity bias in a sentence."""
    best = after or before
    if best is None:
        return "The genome-wide proximity bias was not measured."
    told = "Two genes of one arm are more alike than two of different arms with probability "
    if before and after:
        told += f"{before.interval} before the correction and {after.interval} after it"
    else:
        told += best.interval
    if not best.band:
        return f"{told}; 0.5 is no bias."
    place = _against_band(best)
    return f"{told}; shuffled arm labels give {best.band}, and the map lies {place} that band."


def _against_band(score: Score) -> str:
    if score.value > score.null_high:
        return "above"
    return "below" if score.value < score.null_low else "within"
