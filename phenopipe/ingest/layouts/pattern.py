"""A user's own file names, by a regular expression."""

from pathlib import Path

from phenopipe.ingest.index import PlateIndex


class Pattern:
    """Files named as a user's regular expression says."""

    name = "pattern"

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern

    def recognise(self, folder: Path) -> str | None:
        """Say why the folder is a plate; None where no file fits."""
        raise NotImplementedError

    def read(self, folder: Path) -> PlateIndex:
        """Index every file of a plate's folder."""
        raise NotImplementedError
