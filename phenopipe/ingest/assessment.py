"""All that QC says of one plate: verdicts, effects, and its table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from phenopipe.config import QCConfig
from phenopipe.ingest.effects import find_effects, list_reasons
from phenopipe.ingest.qc import MEASURES
from phenopipe.ingest.verdicts import Verdict, judge_fields, judge_plate, judge_wells
from phenopipe.plates import FieldKey, PlateKey
from phenopipe.schema import QC


@dataclass(frozen=True)
class Assessment:
    """What QC says of one plate.

    Parameters
    ----------
    fields
        The verdict of each field, sorted by field.
    plate
        The plate's.
    table
        schema.QC, one row a field and channel, sorted by field.
    effects
        schema.PLATE_EFFECTS, one row a channel and measure.
    """

    fields: Mapping[FieldKey, Verdict]
    plate: Verdict
    table: pa.Table
    effects: pa.Table


def assess_plate(
    measured: Mapping[FieldKey, NDArray[np.float64]],
    *,
    channels: Sequence[str],
    key: PlateKey,
    shape: tuple[int, int],
    config: QCConfig,
) -> Assessment:
    """Judge a plate's fields, wells and the plate itself.

    Parameters
    ----------
    measured
        ``(c, 8)`` of `measure_field`, by field; at least one field, in any order.
    channels
        Their c labels.
    key
        The plate.
    shape
        The plate's rows and columns of wells.
    config
        The thresholds.
    """
    ordered = {field: measured[field] for field in sorted(measured)}
    verdicts = judge_fields(np.stack(list(ordered.values())), config)
    fields = dict(zip(ordered, verdicts, strict=True))
    effects = find_effects(ordered, channels=channels, key=key, shape=shape, config=config)
    plate = judge_plate(verdicts, list_reasons(effects), config)
    table = _write_table(ordered, fields, plate, channels=channels, key=key)
    return Assessment(fields, plate, table, effects)


def _write_table(
    measured: Mapping[FieldKey, NDArray[np.float64]],
    fields: Mapping[FieldKey, Verdict],
    plate: Verdict,
    *,
    channels: Sequence[str],
    key: PlateKey,
) -> pa.Table:
    n = len(channels)
    wells = judge_wells(fields)
    spread = [field for field in measured for _ in range(n)]
    values = np.concatenate(list(measured.values()))
    columns: dict[str, object] = {
        "experiment": [key.experiment] * len(spread),
        "plate": [key.plate] * len(spread),
        "well": [str(field.well) for field in spread],
        "field": [field.field for field in spread],
        "channel": [*channels] * len(measured),
        "verdict": [fields[field].verdict for field in spread],
        "reason": [fields[field].reason for field in spread],
        "well_verdict": [wells[field.well].verdict for field in spread],
        "well_reason": [wells[field.well].reason for field in spread],
        "plate_verdict": [plate.verdict] * len(spread),
        "plate_reason": [plate.reason] * len(spread),
    }
    for number, name in enumerate(MEASURES):
        # Null stands for what is not known.
        known = np.isfinite(values[:, number])
        columns[name] = pa.array(values[:, number], mask=~known).cast(QC.field(name).type)
    arrays = [pa.array(columns[name], QC.field(name).type) for name in QC.names]
    return pa.Table.from_arrays(arrays, schema=QC)
