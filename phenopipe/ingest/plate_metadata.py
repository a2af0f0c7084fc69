"""What a plate image says of its plate, rows and wells."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ome_zarr_models.v05.hcs import HCSAttrs
from ome_zarr_models.v05.plate import Acquisition as AcquisitionMeta
from ome_zarr_models.v05.plate import Column, Plate, Row, WellInPlate
from ome_zarr_models.v05.well import WellAttrs
from ome_zarr_models.v05.well_types import WellImage, WellMeta

from phenopipe.ingest.index import PlateIndex
from phenopipe.ingest.plate_image import Acquisition, encode_group, group_json, well_path
from phenopipe.plates import FieldKey, PlateKey, Well, row_name


def describe_plate(
    key: PlateKey,
    index: PlateIndex,
    *,
    acquisitions: Sequence[Acquisition],
    images: Mapping[FieldKey, Sequence[Acquisition]],
) -> dict[str, bytes]:
    """Give the metadata of plate, rows and wells, for the fields that were written.

    Parameters
    ----------
    key, index
        The plate, and what its folder holds.
    acquisitions
        The plate's.
    images
        The acquisitions that each good field has, in the fields' order.

    Returns
    -------
    dict
        The content of each ``zarr.json``, by its path in the plate image.
    """
    wells: dict[Well, list[WellImage]] = {}
    for field, taken in images.items():
        wells.setdefault(field.well, []).extend(
            WellImage(path=f"{field.field}{a.suffix}", acquisition=acquisitions.index(a))
            for a in taken
        )
    attributes = {
        "experiment": key.experiment,
        "plate": key.plate,
        "channels": acquisitions[0].labels(index),
        "pixel_size_um": index.pixel_size_um,
    }
    meta = HCSAttrs(version="0.5", plate=_plate_meta(key, index, acquisitions, images))
    row = encode_group({})
    return {
        "zarr.json": group_json(meta, phenopipe=attributes),
        **{f"{name}/zarr.json": row for name in sorted({well.row_name for well in wells})},
        **{
            f"{well_path(well)}/zarr.json": group_json(
                WellAttrs(version="0.5", well=WellMeta(images=found))
            )
            for well, found in wells.items()
        },
    }


def _plate_meta(
    key: PlateKey,
    index: PlateIndex,
    acquisitions: Sequence[Acquisition],
    images: Mapping[FieldKey, Sequence[Acquisition]],
) -> Plate:
    rows, columns = index.shape
    per_well = Counter(field.well for field in images)
    most = max(per_well.values())
    names = {"": "planes", "z": "stack"}
    return Plate(
        version="0.5",
        name=key.plate,
        rows=[Row(name=row_name(row)) for row in range(rows)],
        columns=[Column(name=Well(0, column).column_name) for column in range(columns)],
        wells=[
            WellInPlate(path=well_path(well), rowIndex=well.row, columnIndex=well.column)
            for well in sorted(per_well)
        ],
        field_count=most,
        acquisitions=[
            AcquisitionMeta(id=number, name=names[a.suffix], maximumfieldcount=most)
            for number, a in enumerate(acquisitions)
        ],
    )
