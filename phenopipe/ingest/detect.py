"""Which layout a folder has, and which folders are plates."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from phenopipe.errors import InputError
from phenopipe.ingest.index import PlateIndex
from phenopipe.ingest.layouts import Layout, find_layouts
from phenopipe.ingest.layouts.folders import list_folder
from phenopipe.ingest.layouts.pattern import Pattern


def read_layout(
    folder: str | Path, layout: str = "auto", *, pattern: str | None = None
) -> PlateIndex:
    """Index one plate's folder by the layout that fits it, or by the one named.

    Parameters
    ----------
    folder
        One plate's folder.
    layout
        ``auto``, or the name of a built-in layout or of an installed package's.
    pattern
        A regular expression of the files' paths, instead of a layout; see
        `phenopipe.ingest.layouts.pattern`.

    Raises
    ------
    InputError
        If the folder is not there, no layout fits or two do, or the layout is unknown; and for
        whatever the layout itself refuses.

    Examples
    --------
    >>> read_layout("no/such/folder")
    Traceback (most recent call last):
    ...
    phenopipe.errors.InputError: expected a plate's folder, found nothing at no/such/folder: \
check the path
    """
    folder = _check_folder(folder)
    layouts = choose_layouts(layout, pattern)
    fitting = recognise_folder(folder, layouts)
    if not fitting and layout == "auto":
        raise _nothing_fits(f"expected {folder} to be a plate", layouts)
    if len(fitting) > 1:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in fitting.items())
        raise InputError(
            f"expected one layout to fit {folder}, found {len(fitting)} ({reasons}): "
            "name one as layout"
        )
    # A layout that was asked for by name says itself what it misses.
    name, reason = next(iter(fitting.items()), (layout, "its files are read by it"))
    asked = layout != "auto" or pattern is not None
    named = f"asked for by name; {reason}" if asked else reason
    return replace(layouts[name].read(folder), reason=named)


def find_plates(
    source: str | Path, layout: str = "auto", *, pattern: str | None = None
) -> list[Path]:
    """List the plates' folders of a source: itself, or the folders below that are plates.

    A plate's inner folders (time points, z-steps, dates and acquisitions) belong to it, and are
    not plates of their own. Hidden folders are passed over, a Zarr store is a plate or nothing,
    and links to folders are not followed.

    Parameters
    ----------
    source
        One plate's folder, or a folder of (folders of) plates.
    layout, pattern
        As in `read_layout`.

    Returns
    -------
    list of Path
        Sorted by path.

    Raises
    ------
    InputError
        If the source is not there or holds no plate, or the layout is unknown.
    """
    source = _check_folder(source)
    layouts = choose_layouts(layout, pattern)
    plates = _search(source, layouts)
    if not plates:
        raise _nothing_fits(f"expected a plate in {source} or below", layouts)
    return plates


def _nothing_fits(expected: str, layouts: Mapping[str, Layout]) -> InputError:
    if Pattern.name in layouts:
        return InputError(
            f"{expected}, found no file whose path fits the pattern: it must fit the whole path "
            'from the plate\'s folder, and "[^/]*" in front lets it begin later'
        )
    return InputError(
        f"{expected} of layout {' or '.join(layouts)}, found no file named like one: give the "
        "folder that holds the plate, or another layout"
    )


def _search(folder: Path, layouts: Mapping[str, Layout]) -> list[Path]:
    if recognise_folder(folder, layouts):
        return [folder]
    if folder.suffix == ".zarr":
        return []
    _, names = list_folder(folder)
    inner = [name for name in names if not name.startswith(".")]
    return [plate for name in inner for plate in _search(folder / name, layouts)]


def recognise_folder(folder: Path, layouts: Mapping[str, Layout]) -> dict[str, str]:
    """Say which of the layouts fit one folder, and why."""
    reasons = {name: layout.recognise(folder) for name, layout in layouts.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _check_folder(folder: str | Path) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise InputError(f"expected a plate's folder, found {found} at {folder}: check the path")
    return folder


def choose_layouts(layout: str, pattern: str | None) -> Mapping[str, Layout]:
    """Give the layouts to try, by name: one that is named, a user's pattern, or all.

    Raises
    ------
    InputError
        If the layout is unknown, or both are given.
    """
    if pattern is not None:
        if layout not in ("auto", Pattern.name):
            raise InputError(
                f"expected a layout or a pattern, found both (layout {layout!r}): give one of them"
            )
        return {Pattern.name: Pattern(pattern)}
    layouts = find_layouts()
    if layout == "auto":
        return layouts
    if layout not in layouts:
        raise InputError(f"expected layout to be auto or {' or '.join(layouts)}, found {layout!r}")
    return {layout: layouts[layout]}
