"""Hits: which perturbations do anything, which compounds reverse a disease, and at which dose."""

from phenopipe.hits.doses import DoseCurve, fit_dose_curve, logistic
from phenopipe.hits.run import call_hits, rank_rescue, read_hits, read_rescue, rescue_table

__all__ = [
    "DoseCurve",
    "call_hits",
    "fit_dose_curve",
    "logistic",
    "rank_rescue",
    "read_hits",
    "read_rescue",
    "rescue_table",
]
