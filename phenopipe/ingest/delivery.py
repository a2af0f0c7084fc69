"""Whether a plate's files are those from which it was published."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow.parquet as pq

from phenopipe.ingest.tables import name_some
from phenopipe.lake import Lake, ledger, plate_image
from phenopipe.plates import PlateKey


@dataclass(frozen=True)
class Delivery:
    """What differs between the files that a plate was published from and those found, by path.

    Parameters
    ----------
    changed
        Files with other bytes.
    gone
        Files that were read, and are no longer there.
    new
        Files that were not there.

    Examples
    --------
    >>> str(Delivery(changed=("a.tif", "b.tif"), new=("c.tif",)))
    '2 files changed, 1 new (a.tif, b.tif, c.tif)'
    """

    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    new: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.changed or self.gone or self.new)

    def __str__(self) -> str:
        counts = {"changed": self.changed, "gone": self.gone, "new": self.new}
        told = [(what, len(paths)) for what, paths in counts.items() if paths]
        if not told:
            return "the same files"
        (first, count), *others = told
        files = "file" if count == 1 else "files"
        said = [f"{count:,} {files} {first}", *(f"{count:,} {what}" for what, count in others)]
        return f"{', '.join(said)} ({name_some([*self.changed, *self.gone, *self.new])})"


def compare_delivery(published: Mapping[str, str], found: Mapping[str, str]) -> Delivery:
    """Compare the files that a plate was published from with those of a folder.

    Parameters
    ----------
    published, found
        Digest of each file, by its path in the plate's folder; ``""`` for a file that is there and
        was not read (a stray, or a plane that was not picked). Of a file that one side did not
        read, only that it is there counts.

    Examples
    --------
    >>> once = {"w1.tif": "ab", "w2.tif": "cd", "notes.txt": ""}
    >>> str(compare_delivery(once, {"w1.tif": "ab", "w2.tif": "ef", "w3.tif": "01"}))
    '1 file changed, 1 new (w2.tif, w3.tif)'
    >>> compare_delivery(once, {"w1.tif": "ab", "w2.tif": "cd", "other.txt": ""}).same
    True
    """
    both = published.keys() & found.keys()
    read = {path for path in both if published[path] and found[path]}
    return Delivery(
        changed=tuple(sorted(path for path in read if published[path] != found[path])),
        gone=tuple(sorted(path for path in published.keys() - both if published[path])),
        new=tuple(sorted(path for path in found.keys() - both if found[path])),
    )


def read_delivery(lake: Lake, key: PlateKey) -> dict[str, str] | None:
    """Read from a plate's ledger which files it was published from.

    Returns
    -------
    dict or None
        Digest of each file by its path in the plate's folder, for `compare_delivery`; ``""`` for
        those that were not read. None where no image of the plate is published.
    """
    if lake.manifest(plate_image(key)) is None or lake.manifest(ledger(key)) is None:
        return None
    with lake.fetched(ledger(key)) as path:
        table = pq.read_table(path, columns=["path", "digest"])
    digests = zip(table["path"].to_pylist(), table["digest"].to_pylist(), strict=True)
    return {path: digest for path, digest in digests if path}
