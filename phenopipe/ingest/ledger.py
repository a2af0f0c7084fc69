"""The ledger: one row a source file, and one for each that should be there and is not."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from phenopipe.ingest.field import FieldResult
from phenopipe.ingest.index import ImageFile, PlateIndex
from phenopipe.ingest.plate_image import Acquisition, acquisition_of
from phenopipe.ingest.source import SourceFile
from phenopipe.ingest.verdicts import Verdict
from phenopipe.plates import FieldKey
from phenopipe.schema import LEDGER


def write_rows(
    index: PlateIndex,
    files: Mapping[str, SourceFile],
    *,
    acquisitions: Sequence[Acquisition],
    results: Iterable[FieldResult],
    verdicts: Mapping[FieldKey, Verdict],
    fill_absent: bool,
) -> pa.Table:
    """Write the ledger of one plate, sorted by path, then by field.

    What is missing stands without a path: a row for each line of the index's `missing`, for each
    absent image, and for each plane of a ragged stack that no field has.

    Parameters
    ----------
    index, files
        What the plate's folder holds, and each file's size and digest.
    acquisitions
        The plate's.
    results
        What became of each field.
    verdicts
        The QC verdict of each field that was written.
    fill_absent
        Whether absent images were filled with zeros; else they cost their field.
    """
    by_field = {result.key: result for result in results}
    dropped = _why_dropped(index, by_field, fill_absent=fill_absent)
    rows = [
        *(_row(path, files[path], "ok", "metadata") for path in index.metadata_files),
        *(_row(path, files[path], "ignored", reason) for path, reason in index.ignored),
        *(_row("", None, "missing", line) for line in index.missing),
        *_blank_rows(index, acquisitions),
        *(_absent_row(image, index, dropped) for image in index.absent),
    ]
    for image in index.images:
        result = by_field[image.field_key]
        place = acquisition_of(image, acquisitions).image_path(image.field_key)
        verdict = _verdict(image, result, verdicts, dropped)
        rows.append(
            _row(image.path, files[image.path], *verdict, image=image, index=index)
            | {"destination": "" if image.field_key in dropped else place}
        )
    return pa.Table.from_pylist(sorted(rows, key=_order), schema=LEDGER)


def _why_dropped(
    index: PlateIndex, results: Mapping[FieldKey, FieldResult], *, fill_absent: bool
) -> dict[FieldKey, str]:
    """Name the first faulty or absent image of each field that was dropped."""
    dropped = (
        {}
        if fill_absent
        else {image.field_key: f"{_name(image, index)} missing" for image in reversed(index.absent)}
    )
    for key, result in results.items():
        for path, fault in list(result.faults.items())[:1]:
            dropped[key] = f"{path} {fault.kind}"
    return dropped


def _verdict(
    image: ImageFile,
    result: FieldResult,
    verdicts: Mapping[FieldKey, Verdict],
    dropped: Mapping[FieldKey, str],
) -> tuple[str, str]:
    if fault := result.faults.get(image.path):
        return fault.kind, fault.text
    if image.field_key in dropped:
        return "ok", f"field dropped: {dropped[image.field_key]}"
    judged = verdicts[image.field_key]
    if judged.verdict == "fail":
        return judged.reason.split(",")[0], f"field failed: {judged.reason}"
    return "ok", f"field doubtful: {judged.reason}" if judged.reason else ""


def _absent_row(
    image: ImageFile, index: PlateIndex, dropped: Mapping[FieldKey, str]
) -> dict[str, Any]:
    if image.field_key not in dropped:
        reason = "filled with zeros"
    elif image.field_key in index.fields:
        reason = "field dropped"
    else:
        reason = "no image of the field"
    return _row("", None, "missing", reason, image=image, index=index)


def _blank_rows(index: PlateIndex, acquisitions: Sequence[Acquisition]) -> Iterator[dict[str, Any]]:
    """Tell the planes of a ragged stack that no field has: zeros in the array."""
    found = {(acquisition_of(i, acquisitions), i.channel, i.z or 0, i.t or 0) for i in index.images}
    for taken in acquisitions:
        for channel in taken.channels:
            for t in range(taken.n_t):
                for z in range(taken.n_z):
                    if (taken, channel, z, t) not in found:
                        reason = "no field has this plane: zeros in the array"
                        yield _row("", None, "missing", reason) | {
                            "channel": index.channels[channel],
                            "z": z,
                            "t": t,
                        }


def _row(
    path: str,
    file: SourceFile | None,
    verdict: str,
    reason: str,
    *,
    image: ImageFile | None = None,
    index: PlateIndex | None = None,
) -> dict[str, Any]:
    row = dict.fromkeys(LEDGER.names) | {
        "path": path,
        "size": file.size if file else None,
        "digest": file.digest if file else "",
        "verdict": verdict,
        "reason": reason,
        "well": "",
        "channel": "",
        "destination": "",
    }
    if image is None or index is None:
        return row
    return row | {
        "well": str(image.well),
        "field": image.field,
        "channel": index.channels[image.channel],
        "z": image.z,
        "t": image.t,
    }


def _name(image: ImageFile, index: PlateIndex) -> str:
    z = "" if image.z is None else f" z={image.z}"
    t = "" if image.t is None else f" t={image.t}"
    return f"{index.channels[image.channel]}{z}{t}"


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    number = {name: -1 if row[name] is None else row[name] for name in ("field", "z", "t")}
    return (
        row["path"],
        row["well"],
        number["field"],
        row["channel"],
        *number.values(),
        row["reason"],
    )
