"""QC of an experiment in a line a plate: what lab ops look at before the next one is imaged."""

import pyarrow.compute as pc
import pyarrow.parquet as pq

from phenopipe.lake import Lake, drift, heatmaps, qc_table
from phenopipe.plates import PlateKey
from phenopipe.schema import DRIFT, QC, check_table


def summarise_qc(lake: Lake, experiment: str) -> list[dict[str, str]]:
    """Tell the verdict on each plate of an experiment that `judge_batch` has judged.

    Returns
    -------
    list of dict
        ``experiment``, ``plate``, ``verdict``, ``reason``, ``failed fields``, ``drift`` (channel
        and measure) and ``heatmaps``: where the pictures lie; by plate.

    Raises
    ------
    InputError
        If the experiment was not judged.
    """
    thing = drift(experiment)
    lake.require(thing, remedy=f"run `phenopipe qc --root {lake.root}`")
    with lake.fetched(thing) as path:
        table = check_table(pq.read_table(path), DRIFT, where=thing.path)
    plates = sorted(set(table["plate"].to_pylist()))
    warned = table.filter(pc.field("verdict") != "pass").to_pylist()
    return [
        _summarise(
            lake,
            PlateKey(experiment, plate),
            [f"{row['channel']} {row['measure']}" for row in warned if row["plate"] == plate],
        )
        for plate in plates
    ]


def _summarise(lake: Lake, key: PlateKey, drifted: list[str]) -> dict[str, str]:
    thing = qc_table(key)
    with lake.fetched(thing) as path:
        table = check_table(pq.read_table(path), QC, where=thing.path)
    fields = set(zip(table["well"].to_pylist(), table["field"].to_pylist(), strict=True))
    failed = table.filter(pc.field("verdict") == "fail")
    lost = set(zip(failed["well"].to_pylist(), failed["field"].to_pylist(), strict=True))
    return {
        "experiment": key.experiment,
        "plate": key.plate,
        "verdict": table["plate_verdict"][0].as_py(),
        "reason": table["plate_reason"][0].as_py(),
        "failed fields": f"{len(lost)} of {len(fields)}",
        "drift": ", ".join(drifted),
        "heatmaps": lake.path(heatmaps(key)),
    }
