"""Lakes of many plates, alike but for their names: one is drawn and ingested, the others linked."""

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from phenopipe import compute
from phenopipe.catalogue import list_plates
from phenopipe.config import EmbedConfig
from phenopipe.embed import choose_card, embed_plate, embed_recipe, read_inputs
from phenopipe.ingest import find_plates, ingest_plate
from phenopipe.lake import Lake, Recipe, Thing, embeddings, plate_image, platemap, qc_table
from phenopipe.plates import PlateKey
from phenopipe.simulate import ScreenDesign, simulate_screen

MODEL = "classical"
# Plates of 96 wells: two fields of 160 x 160 pixels and four crops each, as in the demo; or one
# field, which is one crop.
SMALL = ScreenDesign()
TINY = ScreenDesign(sites=1, size_px=80)

_PLATES_AN_EXPERIMENT = 100
_INPUTS = (plate_image, qc_table, platemap)


def write_lake(folder: Path, *, plates: int, design: ScreenDesign) -> Lake:
    """Publish so many plates' images, or take those that lie there."""
    lake, said = Lake(folder / "lake"), folder / "drawn.json"
    wanted = {"plates": plates, "design": design.model_dump()}
    if not said.is_file() or json.loads(said.read_text()) != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        drawn = _ingest_one(folder, design)
        (key,) = list_plates(drawn)
        for number in range(plates):
            experiment, plate = divmod(number, _PLATES_AN_EXPERIMENT)
            _link_plate(drawn, key, lake, PlateKey(f"E{experiment + 1:02d}", f"P{plate + 1:03d}"))
        said.write_text(json.dumps(wanted))
    return lake


def publish_embeddings(lake: Lake, keys: Sequence[PlateKey]) -> None:
    """Publish every plate's embeddings: the first is embedded, the others link to its table."""
    first, *others = keys
    with compute.client("local") as client:
        ref = embed_plate(lake, first, model=MODEL, client=client)
    card = choose_card(lake, MODEL)
    for key in others:
        recipe = embed_recipe(read_inputs(lake, key), card, config=EmbedConfig())
        if not lake.is_current(embeddings(MODEL, key), recipe):
            _link(lake, Thing(ref.thing), lake, embeddings(MODEL, key), recipe)


def open_fresh_lake(prepared: Lake, folder: Path) -> Lake:
    """Give a lake of the same plates, in which nothing is embedded."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for kind in ("images", "qc", "platemaps"):
        (folder / kind).symlink_to(Path(prepared.root, kind))
    return Lake(folder)


def _ingest_one(folder: Path, design: ScreenDesign) -> Lake:
    screen = simulate_screen(folder / "screen", plates=1, wells=96, design=design)
    lake = Lake(folder / "drawn")
    with compute.client("local") as client:
        for plate in find_plates(screen):
            ingest_plate(plate, lake, client=client)
    return lake


def _link_plate(drawn: Lake, found: PlateKey, lake: Lake, key: PlateKey) -> None:
    recipe = Recipe("ingest", 1, {}, {"plate": str(key)})
    for thing_of in _INPUTS:
        _link(drawn, thing_of(found), lake, thing_of(key), recipe)


def _link(source: Lake, found: Thing, lake: Lake, thing: Thing, recipe: Recipe) -> None:
    """Publish a thing whose data are another's."""
    told = source.require(found, remedy="remove the benchmark's folder and start again")
    with lake.writing(thing):
        with lake.draft(thing) as place:
            place.symlink_to(source.path(found))
        lake.publish(thing, recipe, counts=told.counts, started=datetime.now(UTC), files=told.files)
