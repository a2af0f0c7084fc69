"""What determines each thing that a plate's ingest publishes."""

from collections.abc import Mapping

import pandas as pd
import pyarrow as pa

from phenopipe.config import IngestConfig
from phenopipe.digests import digest_json
from phenopipe.ingest.index import PlateIndex
from phenopipe.ingest.platemap import platemap_table
from phenopipe.ingest.source import SourceFile
from phenopipe.lake import Recipe, Thing, heatmaps, ledger, plate_effects, plate_image, qc_table
from phenopipe.plates import PlateKey

STAGE_VERSION = 2


def image_recipes(
    key: PlateKey, index: PlateIndex, files: Mapping[str, SourceFile], config: IngestConfig
) -> dict[Thing, Recipe]:
    """Say what determines all that comes of a plate's images: thresholds do not touch the image.

    Parameters
    ----------
    key, index
        The plate, and what its folder holds.
    files
        Size and digest of every file of the folder.
    config
        How it is ingested.
    """
    ignored = {path for path, _ in index.ignored}
    used = {path: file.digest for path, file in files.items() if path not in ignored}
    source = {f"source:{key.plate}": digest_json(used)}
    others = {"source:ignored": digest_json([[p, why, files[p].size] for p, why in index.ignored])}
    imaging = {
        "experiment": key.experiment,
        "plate": key.plate,
        "layout": index.layout,
        "channels": list(index.channels.items()),
        **config.model_dump(include={"missing", "z", "t", "illumination", "levels", "chunk"}),
    }
    judging = imaging | {"qc": config.qc.model_dump()}
    judged = _recipe(source, judging)
    return {
        ledger(key): _recipe(source | others, judging),
        qc_table(key): judged,
        plate_effects(key): judged,
        heatmaps(key): judged,
        plate_image(key): _recipe(source, imaging),
    }


def platemap_recipe(key: PlateKey, index: PlateIndex, rows: pd.DataFrame) -> Recipe:
    """Say what determines the published platemap: its rows, and the wells that it is held against.

    Parameters
    ----------
    key, index
        The plate, and what its folder holds.
    rows
        The plate's rows, canonical.
    """
    told = {"source:platemap": _digest_table(platemap_table(rows))}
    wells = [str(well) for well in index.wells]
    named = {"experiment": key.experiment, "plate": key.plate}
    return _recipe(told, named | {"shape": list(index.shape), "wells": digest_json(wells)})


def _recipe(inputs: Mapping[str, str], parameters: Mapping[str, object]) -> Recipe:
    return Recipe("ingest", STAGE_VERSION, inputs, parameters)


def _digest_table(table: pa.Table) -> str:
    kinds = [str(kind) for kind in table.schema.types]
    return digest_json([table.schema.names, kinds, table.to_pylist()])
