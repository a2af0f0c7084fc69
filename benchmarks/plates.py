"""A plate at a lab's size: fields of 6 x 2048 x 2048 in 16 bits, with a camera's own noise.

Cells are drawn by the simulator at half size and enlarged, so that one is some 46 pixels across
as at 20x; a few drawings are turned and shifted into as many fields as are asked for, and each is
exposed anew. So no noise comes twice, and it compresses as a camera's does.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import zoom

from phenopipe.plates import FieldKey, PlateKey, Well
from phenopipe.simulate import CHANNELS, Nuisances, ScreenDesign
from phenopipe.simulate.camera import Camera, set_up_camera
from phenopipe.simulate.cells import Array, draw_field
from phenopipe.simulate.phenotypes import no_traits
from phenopipe.simulate.vendors import VENDORS

SIZE = 2048
SITES = 4
KEY = PlateKey("Bench", "Plate1")
PIXEL_SIZE_UM = 0.65
_DRAWINGS = 4
_DRAWN = "drawn.json"
_COLUMNS = 12


def draw_plate(folder: Path, *, fields: int) -> Path:
    """Write so many fields as MetaXpress does, or take those that lie there; gives the plate."""
    said = folder / _DRAWN
    wanted = {"fields": fields, "size": SIZE}
    if not said.is_file() or json.loads(said.read_text()) != wanted:
        _write_fields(folder, fields)
        said.write_text(json.dumps(wanted))
    return folder / str(KEY)


def link_plate(drawn: Path, folder: Path, *, fields: int) -> Path:
    """Make a plate of so many fields from the files of one with fewer, on the same disk.

    On one GPU alone a plate of a minute is larger than what is drawn in an hour.
    """
    plate, sources = folder / str(KEY), find_fields(drawn)
    if not (folder / _DRAWN).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        for number, field in enumerate(_list_fields(fields)):
            source = image_paths(drawn, sources[number % len(sources)])
            for path, link in zip(source, image_paths(plate, field), strict=True):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.hardlink_to(path)
        (folder / _DRAWN).write_text(json.dumps({"fields": fields, "size": SIZE}))
    return plate


def find_fields(plate: Path) -> list[FieldKey]:
    """Name the plate's fields, well by well."""
    drawn = json.loads((plate.parents[1] / _DRAWN).read_text())
    return _list_fields(drawn["fields"])


def image_paths(plate: Path, field: FieldKey) -> list[Path]:
    """Name the files of one field, channel by channel."""
    name_image, root = VENDORS["imagexpress"].name_image, plate.parents[1]
    return [root / name_image(KEY, field, wave) for wave in range(1, len(CHANNELS) + 1)]


def read_field(plate: Path, field: FieldKey) -> np.ndarray:
    """Read one field ``(c, y, x)`` with tifffile: what every contender must give back."""
    return np.stack([tifffile.imread(path) for path in image_paths(plate, field)])


def _list_fields(fields: int) -> list[FieldKey]:
    wells = (divmod(number // SITES, _COLUMNS) for number in range(fields))
    return [FieldKey(Well(*well), number % SITES + 1) for number, well in enumerate(wells)]


def _write_fields(folder: Path, fields: int) -> None:
    camera = set_up_camera(KEY, seed=0, nuisances=Nuisances())
    design = ScreenDesign(size_px=SIZE // 2)
    drawings = [
        draw_field(no_traits(), np.random.default_rng(number), design=design)
        for number in range(min(fields, _DRAWINGS))
    ]
    plate = folder / str(KEY)
    image_paths(plate, FieldKey(Well(0, 0), 1))[0].parent.mkdir(parents=True, exist_ok=True)
    for number, field in enumerate(_list_fields(fields)):
        pixels = _expose(drawings[number % _DRAWINGS], number, camera)
        for path, plane in zip(image_paths(plate, field), pixels, strict=True):
            VENDORS["imagexpress"].write_image(path, plane, pixel_size_um=PIXEL_SIZE_UM)


def _expose(drawing: Array, number: int, camera: Camera) -> np.ndarray:
    turned = np.rot90(drawing, number // _DRAWINGS, axes=(1, 2))
    light = np.stack([zoom(plane, 2, order=1) for plane in turned])
    return camera.expose(light, np.random.default_rng([1, number]))
