"""Alignments in principal components: how many of these the controls support."""

import logging
from typing import Any, Literal

from phenopipe.errors import InputError
from phenopipe.maps.alignment import Alignment
from phenopipe.stats import Floats, Moments

Components = int | Literal["auto"] | None

_log = logging.getLogger(__name__)

# Below this share of the largest variance a component is rounding of the others.
_RANK_TOLERANCE = 1e-10

# Controls for each component that "auto" keeps.
_PER_COMPONENT = 4
# It keeps so many though there are fewer controls, if each batch has two for each.
_LEAST = 8


class ComponentAlignment(Alignment):
    """An alignment that keeps some of the principal components of all controls.

    Parameters
    ----------
    n_components
        ``"auto"`` keeps as many as the controls support (:func:`supported_components`), a number
        no more than half of all controls, None all in which the controls vary. A cap is logged,
        and is told by the attributes ``n_components_`` and ``cap``.
    """

    def __init__(self, n_components: Components = None) -> None:
        super().__init__()
        is_number = isinstance(n_components, int) and n_components > 0
        if not is_number and n_components not in ("auto", None):
            raise InputError(
                'expected n_components to be a number from 1, "auto" or None, found '
                f"{n_components!r}"
            )
        self.n_components = n_components

    @property
    def n_components_(self) -> int:
        """How many components were kept."""
        self.finish()
        return int(self._shared["basis"].shape[1])

    def _options(self) -> dict[str, Any]:
        return {"n_components": self.n_components}

    def _count(self, variances: Floats, batches: list[Moments]) -> int:
        """Give how many components to keep; note and log what was capped."""
        counts = [controls.count for controls in batches]
        rank = int((variances > _RANK_TOLERANCE * variances.max(initial=0)).sum())
        if not rank:
            raise InputError("expected controls that differ, found all alike: check control_type")
        asked = self.n_components
        wanted = asked if isinstance(asked, int) else len(variances)
        kept = max(1, min(wanted, rank, self._limit(counts)))
        if kept < wanted:
            self.cap = (
                f"{kept} of {wanted} components kept: the rank of all {sum(counts)} controls is "
                f"{rank}, and the batch with the fewest controls has {min(counts)}"
            )
            _log.warning("%s", self.cap)
        if kept > sum(counts) // _PER_COMPONENT:
            _log.warning(
                "%d controls for %d components: the least of these are noise, which is stretched "
                'to the size of the others; "auto" keeps %d',
                sum(counts), kept, min(rank, supported_components(counts)),
            )  # fmt: skip
        return kept

    def _limit(self, counts: list[int]) -> int:
        """Give how many components the controls of each batch allow."""
        if self.n_components is None:
            return sum(counts)
        return supported_components(counts) if self.n_components == "auto" else sum(counts) // 2


def supported_components(counts: list[int]) -> int:
    """Give how many components batches of so many controls support: what ``"auto"`` keeps.

    One for four controls of all batches: with fewer the least variances are far too small by
    chance (Marchenko & Pastur 1967), and dividing by them buries the rest. On four plates of
    CPJUMP1 with 64 DMSO wells each (904 features; 81% of compounds consistent as they are) TVN
    leaves 78% with 32 components, 62% with 100 and 52% with all; sphering with 32 leaves 81%. And
    one for two controls of the smallest batch, by which this batch is whitened. A screen of few
    controls keeps eight all the same, where two controls stand for each: in fewer dimensions
    nothing can be told apart.

    Examples
    --------
    >>> supported_components([64, 64, 64, 64]), supported_components([256])
    (32, 64)
    >>> supported_components([12]), supported_components([12, 12])
    (6, 6)
    """
    return max(1, min(max(sum(counts) // _PER_COMPONENT, _LEAST), min(counts) // 2))
