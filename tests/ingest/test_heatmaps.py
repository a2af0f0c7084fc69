import io

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.image import imread

from phenopipe.config import QCConfig
from phenopipe.ingest.assessment import assess_plate
from phenopipe.ingest.heatmaps import draw_heatmaps, shrink_heatmaps
from phenopipe.ingest.qc import MEASURES
from phenopipe.plates import FieldKey, PlateKey, Well

USUAL = {"mean": 900, "background": 300, "foreground": 0.4, "saturated": 0.0, "focus": 0.2,
         "spectrum_slope": -3.0, "detail": 0.4, "cells": 40}  # fmt: skip
WARN, FAIL, PASS, NO_IMAGE = (240, 228, 66), (213, 94, 0), (86, 180, 233), (227, 227, 227)


def draw_table(*, shape=(8, 12), channels=("DNA",), left_out=(), fields=1, **planted):
    """A plate with planted measures: ``name={(row, column): value}``."""
    rng = np.random.default_rng(0)
    measured = {}
    for place in np.ndindex(shape):
        for field in range(fields):
            if place in left_out:
                continue
            usual = np.array([USUAL[name] for name in MEASURES])
            measures = np.tile(usual, (len(channels), 1)) * rng.normal(1, 0.02, (len(channels), 1))
            for name, values in planted.items():
                if place in values and field == 0:
                    measures[:, MEASURES.index(name)] = values[place]
            measures[:, MEASURES.index("cells")] = 40
            measured[FieldKey(Well(*place), field)] = measures
    key = PlateKey("Batch1", "Plate1")
    config = QCConfig()
    return assess_plate(measured, channels=channels, key=key, shape=shape, config=config).table


def paint(table, shape=(8, 12)):
    """Draw and read back: ``(y, x, 3)``, uint8."""
    pixels = imread(io.BytesIO(draw_heatmaps(table, shape=shape)))
    return np.rint(pixels[:, :, :3] * 255).astype("uint8")


def find_verdict(pixels, shape, place):
    """The colour of a well in the panel of verdicts, off its mark."""
    blue = np.argwhere((pixels[:720, :1000] == PASS).all(axis=2))
    top, left = blue.min(axis=0)
    side = (blue.max(axis=0) + 1 - (top, left)) / shape
    y, x = top + side[0] * (place[0] + 0.5), left + side[1] * (place[1] + 0.1)
    return tuple(pixels[int(y), int(x)].tolist())


def test_the_same_table_gives_the_same_bytes():
    table = draw_table()
    once = draw_heatmaps(table, shape=(8, 12))
    assert once.startswith(b"\x89PNG")
    assert once == draw_heatmaps(table, shape=(8, 12))
    assert once == draw_heatmaps(pa.Table.from_batches(table.to_batches()), shape=(8, 12))


@pytest.mark.parametrize("shape", [(8, 12), (16, 24), (32, 48)])
def test_each_well_has_its_verdicts_colour_where_it_stands(shape):
    table = draw_table(
        shape=shape, fields=2, saturated={(2, 5): 0.4}, left_out=[(3, 4)], detail={(5, 9): 0.02}
    )
    pixels = paint(table, shape)
    assert find_verdict(pixels, shape, (2, 5)) == WARN
    assert find_verdict(pixels, shape, (5, 9)) == WARN
    assert find_verdict(pixels, shape, (3, 4)) == NO_IMAGE
    assert find_verdict(pixels, shape, (4, 3)) == PASS


def test_a_well_without_a_good_field_is_red():
    table = draw_table(saturated={(2, 5): 0.4})
    assert find_verdict(paint(table), (8, 12), (2, 5)) == FAIL


def test_a_channel_without_contrast_and_fields_without_cells_are_drawn():
    everywhere = dict.fromkeys(np.ndindex(8, 12), np.nan)
    table = draw_table(channels=("DNA", "ER"), focus=everywhere)
    blank = table.set_column(
        table.column_names.index("cells"), "cells", pa.nulls(len(table), pa.int32())
    )
    assert paint(blank).shape == paint(table).shape


def test_a_row_of_panels_a_channel():
    heights = [len(paint(draw_table(channels=tuple("ABCDEF"[:n])))) for n in (1, 2, 4)]
    assert heights[2] - heights[1] == 2 * (heights[1] - heights[0])


def test_labels_are_written_as_they_are():
    """Dollar signs would start a formula."""
    assert paint(draw_table(channels=("w1 $\\frac$",))).any()


def test_a_shrunk_picture_keeps_the_verdict_of_a_single_well():
    table = draw_table(saturated={(2, 3): 0.5})
    whole = draw_heatmaps(table, shape=(8, 12))
    shrunk = shrink_heatmaps(whole)
    assert len(shrunk) < len(whole) / 2
    small = np.rint(imread(io.BytesIO(shrunk))[:, :, :3] * 255).astype("uint8")
    pixels = small.repeat(2, axis=0).repeat(2, axis=1)
    assert find_verdict(pixels, (8, 12), (2, 3)) == FAIL
    assert find_verdict(pixels, (8, 12), (2, 4)) == PASS
