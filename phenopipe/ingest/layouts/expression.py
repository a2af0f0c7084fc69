"""A user's regular expression of file paths: checked, bounded in time, and matched to a plate."""

import re
from pathlib import Path

import regex

from phenopipe.errors import InputError
from phenopipe.plates import PLATE_SHAPES

# Groups that hold a well counted row by row, and the wells of its plate.
LINEAR_WELLS = {f"well{size}": size for size in PLATE_SHAPES}
_WELLS = [{"well"}, {"row", "column"}, *({name} for name in LINEAR_WELLS)]
_OTHERS = ["plate", "site", "channel", "z", "t"]
# Repeats inside repeats can take for ever on one name: a match is given up after this time.
_SECONDS = 0.5
# `regex` unrolls counted repeats while it compiles, which no time limit bounds:
# (?:a{1000}){1000} takes 300 MB. Expressions of file names are far below these.
_LONGEST = 500
_MOST_SIGNS = 255
_MOST_GROUPS = 20
_REPEAT = re.compile(r"(?P<of_group>\))?\{(?P<least>\d*)(?:,(?P<most>\d*))?\}", re.ASCII)


class PathExpression:
    r"""A regular expression whose named groups tell what an image file's path says.

    Parameters
    ----------
    pattern
        The expression, as Python's `re` reads it.

    Attributes
    ----------
    pattern
        The expression.
    groups
        The names of its groups.

    Raises
    ------
    InputError
        If it is no regular expression, is too large, names an unknown group, or not the well.

    Examples
    --------
    >>> expression = PathExpression(r"(?P<well>[A-H]\d+)_(?P<channel>\w+)\.tif")
    >>> expression.match("B7_DNA.tif", start="")
    {'well': 'B7', 'channel': 'DNA'}
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        _check_size(pattern)
        try:
            self.groups = frozenset(re.compile(pattern).groupindex)
            # The same language; it can be given a time limit and tell what may become a match.
            self._regex = regex.compile(pattern)
        except (re.error, regex.error, RecursionError, OverflowError) as error:
            raise InputError(
                f"expected a regular expression as Python's re reads it, found {pattern!r} "
                f"({error}): correct it"
            ) from error
        _check_groups(self.groups)

    def list_starts(self, folder: Path) -> list[str]:
        """List from where a match may begin: the folder, or above where `plate` names the folder.

        Returns
        -------
        list of str
            What stands in front of a path from the folder: ``""``, ``"P1/"``, ``"screen/P1/"``.
        """
        depth = self.pattern.count("/") if "plate" in self.groups else 0
        parts = folder.resolve().parts[1:]
        return ["".join(f"{part}/" for part in parts[-n:] if n) for n in range(depth + 1)]

    def match(self, path: str, *, start: str) -> dict[str, str] | None:
        """Match the whole of a path, and say what each group holds; without the empty ones.

        None where the path does not match, or a group holds a ``/``, or `plate` names another
        folder than the one at which `start` ends.

        Raises
        ------
        InputError
            If it takes too long.
        """
        found = self._match(start + path, partial=False)
        if found is None or not _is_of(found, start):
            return None
        return {name: text for name, text in found.groupdict().items() if text}

    def may_begin(self, inner: str, *, start: str) -> bool:
        """Say whether the path of an inner folder, with its ``/``, may be a match's beginning."""
        return self._match(start + inner, partial=True) is not None

    def _match(self, text: str, *, partial: bool) -> "regex.Match[str] | None":
        try:
            return self._regex.fullmatch(text, partial=partial, timeout=_SECONDS)
        except (TimeoutError, MemoryError) as error:
            raise InputError(
                f"expected a pattern that a name fits or not at once, found one that takes over "
                f"{_SECONDS} s on {text} (pattern {self.pattern}): write it without choices or "
                "repeats inside repeats, such as (?:a|aa)+"
            ) from error


def _check_size(pattern: str) -> None:
    groups = 1
    signs = 0
    for repeat in _REPEAT.finditer(pattern):
        # Python refuses to read numbers of thousands of digits.
        times = max(int((repeat[name] or "0")[:9]) for name in ("least", "most"))
        if repeat["of_group"]:
            groups *= max(times, 1)
        else:
            signs = max(signs, times)
    if len(pattern) > _LONGEST or groups > _MOST_GROUPS or signs > _MOST_SIGNS:
        raise InputError(
            f"expected a pattern of at most {_LONGEST} signs, with repeats {{n}} of groups up to "
            f"{_MOST_GROUPS} in all and of signs up to {_MOST_SIGNS}, found {pattern[:80]!r}: "
            "write + or * for {n}, or a shorter pattern"
        )


def _check_groups(groups: frozenset[str]) -> None:
    wells = {name for way in _WELLS for name in way}
    unknown = sorted(groups - wells - {*_OTHERS})
    if unknown:
        known = ["plate", "well", "site", "channel", "z", "t", "row", "column", *LINEAR_WELLS]
        raise InputError(
            f"expected groups named {', '.join(known[:-1])} or {known[-1]} in the pattern, found "
            f"{unknown[0]!r}: rename it, or write (?:...) for a group without a name"
        )
    if groups & wells not in _WELLS:
        found = " and ".join(sorted(groups & wells)) or "none"
        raise InputError(
            "expected the well once in the pattern, as a group (?P<well>...) or as two, row and "
            f"column, found {found}: name what tells the well, and only that"
        )


def _is_of(match: "regex.Match[str]", start: str) -> bool:
    """Say whether the groups hold parts of one path each, and `plate` the name of `start`."""
    groups = match.groupdict()
    if any("/" in (text or "") for text in groups.values()):
        return False
    if not groups.get("plate"):
        return not start
    begin, end = match.span("plate")
    if not start:
        return bool(match.string.rfind("/") < begin)
    return bool(start.rfind("/", 0, -1) < begin and end < len(start))
