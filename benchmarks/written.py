"""What every contender writes, and what it is checked against."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import zarr
from numcodecs import Blosc

from benchmarks.plates import SIZE, find_fields, read_field
from phenopipe.plates import FieldKey
from phenopipe.simulate import CHANNELS

CHUNK = 128
LEVELS = 2
SHAPES = [(len(CHANNELS), SIZE >> level, SIZE >> level) for level in range(LEVELS)]

Write = Callable[[Path, Path], None]


def check_arrays(plate: Path, written: Path) -> None:
    """Check codec, chunks and pixels of every field, or stop.

    Level 0 must be what tifffile reads; a pixel of level 1 must lie among the four that it stands
    for, whether it is their mean or one of them.
    """
    found = {_image(path).parts[-3:]: _image(path) for path in _find_arrays(written, 0)}
    fields = find_fields(plate)
    _expect(len(found) == len(fields), f"{len(found)} fields of {len(fields)} are written")
    for field in fields:
        image = found[field.well.row_name, field.well.column_name, str(field.field)]
        levels = [
            zarr.open_array(next(_find_arrays(image, level)), mode="r") for level in range(LEVELS)
        ]
        for array in levels:
            _check_codec(array)
        _check_pixels(read_field(plate, field), [array[:] for array in levels], field)


def check_flat(plate: Path, written: Path) -> None:
    """Unpack the flat file, or stop: so many pixels, and on level 0 the sum of all fields."""
    packed, codec = memoryview((written / "flat").read_bytes()), Blosc()
    fields, per_level = find_fields(plate), [np.prod(shape) for shape in SHAPES]
    wanted = sum(int(read_field(plate, field).sum(dtype="u8")) for field in fields)
    total = unpacked = at = 0
    while at < len(packed):
        length = int.from_bytes(packed[at + 12 : at + 16], "little")  # c-blosc's header: cbytes
        chunk = np.frombuffer(codec.decode(packed[at : at + length]), "u2")
        if unpacked % sum(per_level) < per_level[0]:
            total += int(chunk.sum(dtype="u8"))
        unpacked, at = unpacked + chunk.size, at + length
    _expect(unpacked == len(fields) * sum(per_level), "another number of pixels is written")
    _expect(total == wanted, "other pixels are written")


def count_files(written: Path) -> float:
    """Count the files of the arrays, a field and level; one in all where there is no array."""
    arrays = [path for level in range(LEVELS) for path in _find_arrays(written, level)]
    files = sum(path.is_file() for array in arrays for path in array.rglob("*"))
    return files / len(arrays) if arrays else float("nan")


def count_bytes(written: Path) -> int:
    """Add up the sizes of all files."""
    return sum(path.stat().st_size for path in written.rglob("*") if path.is_file())


def _find_arrays(written: Path, level: int) -> Iterator[Path]:
    """Find the arrays of one level by their shape, whatever a library calls them."""
    for path in sorted(written.rglob("zarr.json")):
        metadata = json.loads(path.read_text())
        if metadata["node_type"] == "array" and tuple(metadata["shape"]) == SHAPES[level]:
            yield path.parent


def _image(array: Path) -> Path:
    """Find the image above an array: the group with multiscales."""
    for folder in array.parents:
        metadata = folder / "zarr.json"
        if metadata.is_file() and '"multiscales"' in metadata.read_text():
            return folder
    raise SystemExit(f"no multiscales above {array}")


def _check_codec(array: zarr.Array) -> None:
    _expect(array.chunks == (1, CHUNK, CHUNK), f"chunks of {array.chunks} are written")
    told = array.compressors[0].to_dict()["configuration"]
    codec = [told.get(name) for name in ("cname", "clevel", "shuffle")]
    _expect(codec == ["zstd", 1, "bitshuffle"], f"codec {codec} is written")


def _check_pixels(pixels: np.ndarray, levels: Sequence[np.ndarray], field: FieldKey) -> None:
    _expect(np.array_equal(levels[0], pixels), f"other pixels are written in {field}")
    n, height, width = levels[1].shape
    fours = pixels.reshape(n, height, 2, width, 2)
    within = (fours.min((2, 4)) <= levels[1]) & (levels[1] <= fours.max((2, 4)))
    _expect(within.all(), f"level 1 of {field} is not of the same pixels")


def _expect(holds: object, otherwise: str) -> None:
    if not holds:
        raise SystemExit(otherwise)
