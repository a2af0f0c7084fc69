"""The directories of a TIFF, walked and bounded before a library reads them.

tifffile passes over what is damaged with a line in its log: a tag of unknown type gets its
default, a directory outside the file ends the pages. Pixels would be lost or misread unseen.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from phenopipe.ingest.image_fault import ImageFault

# Bytes of one value of each type of TIFF 6.0 and BigTIFF.
_TYPE_BYTES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}
_BLOBS = {1, 2, 6, 7}
_UNSIGNED = {1, 3, 4, 13, 16, 18}

# More than a plate's file holds: tifffile needs 2 s for as many pages, tags or strips.
_MOST_PAGES = 10_000
_MOST_TAGS_OF_PAGE = 512
_MOST_TAGS = 2**18
_MOST_VALUES = 2**18
MOST_SEGMENTS = 2**17


# The tags that say where pixels lie and how they are written, and how many values they may have:
# one, one a sample, or one a strip or tile.
_MOST_OF_TAG = {
    **dict.fromkeys((256, 257, 259, 262, 266, 277, 278, 284, 317, 322, 323, 32997, 32998), 1),
    **dict.fromkeys((258, 339), 64),
    **dict.fromkeys((273, 279, 324, 325), MOST_SEGMENTS),
}


@dataclass(frozen=True)
class _Dialect:
    """How classic TIFF and BigTIFF write their directories, in the file's byte order."""

    first: struct.Struct
    first_at: int
    count: struct.Struct
    entry: struct.Struct
    inline: int


def check_directories(data: bytes, path: str | Path) -> int:
    """Follow the chain of directories to its end, and give the number of pages.

    All of it must lie in the file, and each tag's value too. The tags that place the pixels must
    be there once, as whole numbers.

    Raises
    ------
    ImageFault
        If the bytes are no TIFF, or are damaged, or hold more pages or tags than any plate's
        file.
    """
    dialect = _read_dialect(data, path)
    (at,) = dialect.first.unpack_from(data, dialect.first_at)
    seen: set[int] = set()
    n_bytes = n_tags = 0
    while at:
        if at in seen or len(seen) == _MOST_PAGES:
            text = f"its pages run in a circle or are more than {_MOST_PAGES}"
            raise ImageFault("corrupt", path, text)
        seen.add(at)
        entries, at = _read_directory(data, path, dialect, at)
        n_tags += len(entries) // dialect.entry.size
        n_bytes += _check_tags(dialect.entry.iter_unpack(entries), data, path, dialect)
        if n_bytes > 2 * len(data) or n_tags > _MOST_TAGS:
            text = f"expected {_MOST_TAGS} tags of {2 * len(data)} bytes at most, found more"
            raise ImageFault("corrupt", path, text)
    if not seen:
        raise ImageFault("corrupt", path, "expected a page, found none")
    return len(seen)


def _read_dialect(data: bytes, path: str | Path) -> _Dialect:
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    if not order:
        raise ImageFault("not_an_image", path, f"expected TIFF, found {data[:8]!r}")
    if len(data) < 16:
        raise ImageFault("truncated", path, f"expected a TIFF header, found {len(data)} bytes")
    (version,) = struct.unpack_from(f"{order}H", data, 2)
    if version not in {42, 43}:
        raise ImageFault("not_an_image", path, f"expected TIFF version 42 or 43, found {version}")
    if version == 42:
        formats = (f"{order}I", 4, f"{order}H", f"{order}HHII", 4)
    else:
        formats = (f"{order}Q", 8, f"{order}Q", f"{order}HHQQ", 8)
    first, first_at, count, entry, inline = formats
    return _Dialect(
        struct.Struct(first), first_at, struct.Struct(count), struct.Struct(entry), inline
    )


def _read_directory(data: bytes, path: str | Path, dialect: _Dialect, at: int) -> tuple[bytes, int]:
    """Give a directory's entries, and the offset of the next."""
    start = at + dialect.count.size
    n_tags = dialect.count.unpack_from(data, at)[0] if start <= len(data) else 0
    end = start + n_tags * dialect.entry.size
    if start > len(data) or end + dialect.first.size > len(data):
        text = f"expected a directory at byte {at}, found the end at byte {len(data)}"
        raise ImageFault("truncated", path, text)
    if n_tags > _MOST_TAGS_OF_PAGE:
        text = f"expected {_MOST_TAGS_OF_PAGE} tags at most in a directory, found {n_tags}"
        raise ImageFault("corrupt", path, text)
    return data[start:end], dialect.first.unpack_from(data, end)[0]


def _check_tags(
    entries: Iterable[tuple[int, ...]], data: bytes, path: str | Path, dialect: _Dialect
) -> int:
    """Check each tag of a directory; give the bytes of their values."""
    seen: set[int] = set()
    n_bytes = 0
    for tag, kind, count, offset in entries:
        size = _TYPE_BYTES.get(kind, 0) * count
        if size > dialect.inline and offset + size > len(data):
            text = f"expected tag {tag} up to byte {offset + size}, found the end at {len(data)}"
            raise ImageFault("truncated", path, text)
        most = _MOST_OF_TAG.get(tag, len(data) if kind in _BLOBS else _MOST_VALUES)
        if count > most:
            text = f"expected {most} values at most of tag {tag}, found {count}"
            raise ImageFault("corrupt", path, text)
        if tag in _MOST_OF_TAG:
            astray = size > dialect.inline and offset < dialect.first_at
            if kind not in _UNSIGNED or count == 0 or tag in seen or astray:
                text = f"expected tag {tag} once, with whole numbers, found it damaged"
                raise ImageFault("corrupt", path, text)
            seen.add(tag)
        n_bytes += size
    return n_bytes
