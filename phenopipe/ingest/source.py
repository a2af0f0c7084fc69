"""What lies in a plate's folder, byte for byte."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from phenopipe.config import IngestConfig
from phenopipe.digests import digest_file, digest_folder, digest_json
from phenopipe.ingest.index import PlateIndex


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a plate's folder: its size, and its digest; None and ``""`` if unreadable.

    A folder that holds one array of a Zarr store counts as a file.
    """

    size: int | None
    digest: str


def digest_source(
    index: PlateIndex, config: IngestConfig, *, images: bool = True
) -> dict[str, SourceFile]:
    """Give size and digest of each file of a plate, by path; of ignored ones the size.

    Parameters
    ----------
    index
        The plate.
    config
        How it is ingested: the illumination functions count where they are applied.
    images
        Whether to read the images; without, there are the metadata and the ignored files only.
    """
    used = {*index.metadata_files, *(image.path for image in index.images if images)}
    if config.illumination:
        used |= set(index.illumination.values())
    with ThreadPoolExecutor() as pool:
        digested = pool.map(lambda path: digest_path(index.folder / path), sorted(used))
        files = dict(zip(sorted(used), digested, strict=True))
    ignored = {path: SourceFile(_size(index.folder / path), "") for path, _ in index.ignored}
    return files | ignored


def digest_path(path: Path) -> SourceFile:
    """Give a file's size and digest, or those of a folder's files together."""
    try:
        if path.is_dir():
            sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
            return SourceFile(sum(sizes), digest_json(digest_folder(path)))
        return SourceFile(path.stat().st_size, digest_file(path))
    except OSError:
        return SourceFile(None, "")


def _size(path: Path) -> int | None:
    """Give a file's size; a folder's own is the file system's business."""
    try:
        return None if path.is_dir() else path.stat().st_size
    except OSError:
        return None
