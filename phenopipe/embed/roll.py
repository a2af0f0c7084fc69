"""The roll of a plate's fields: which are in a piece, which were given up, which are to do."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from phenopipe.embed.pieces import Piece
from phenopipe.plates import FieldKey


class Roll:
    """What has become of each field of a plate.

    Parameters
    ----------
    fields
        Those to embed, in the order of the table's rows.
    """

    def __init__(self, fields: Sequence[FieldKey]) -> None:
        self.fields = tuple(fields)
        self.skipped: dict[FieldKey, str] = {}
        self._places = {field: place for place, field in enumerate(fields)}
        self._pieces: dict[FieldKey, Piece] = {}
        self._next = 0

    def take(self, piece: Piece) -> bool:
        """Enter a piece, unless it has a field that is entered, or lacks one in its midst."""
        first = self._places.get(piece.fields[0], len(self.fields))
        if self.fields[first : first + len(piece.fields)] != piece.fields:
            return False
        if any(self.is_settled(field) for field in piece.fields):
            return False
        self._pieces |= dict.fromkeys(piece.fields, piece)
        return True

    def skip(self, field: FieldKey, why: str) -> None:
        """Give a field up."""
        self.skipped[field] = why

    def is_settled(self, field: FieldKey) -> bool:
        """Tell whether a field is in a piece, or given up."""
        return field in self._pieces or field in self.skipped

    @property
    def settled(self) -> int:
        """How many fields are."""
        return len(self._pieces) + len(self.skipped)

    def left(self) -> list[list[FieldKey]]:
        """List what is left to do, as runs of fields that stand side by side."""
        return self.split([field for field in self.fields if not self.is_settled(field)])

    def split(self, fields: Sequence[FieldKey]) -> list[list[FieldKey]]:
        """Split fields, in order, where others stand between them."""
        runs = [[field] for field in fields[:1]]
        for before, field in pairwise(fields):
            if self._places[field] == self._places[before] + 1:
                runs[-1].append(field)
            else:
                runs.append([field])
        return runs

    def pop_ready(self) -> Iterator[Piece]:
        """Give each piece once, in the order of the table's rows, as far as all is settled."""
        while self._next < len(self.fields) and self.is_settled(self.fields[self._next]):
            piece = self._pieces.get(self.fields[self._next])
            self._next += len(piece.fields) if piece else 1
            if piece:
                yield piece
