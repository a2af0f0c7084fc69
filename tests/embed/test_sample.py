import numpy as np
import pytest

from phenopipe.embed.sample import sample_crops
from phenopipe.errors import InputError
from phenopipe.models import Card, classical_card
from tests.embed.conftest import KEY

CARD = classical_card().model_copy(update={"crop": 32})


def test_a_crop_of_each_well_is_cut_from_its_first_field(plate):
    plate.publish()
    crops = sample_crops(plate.lake, KEY, CARD)
    assert crops.shape == (3, 3, 32, 32)
    first = plate.pixels["A01", 1]
    assert np.array_equal(crops[0], first[:, 16:48, 16:48])
    assert np.array_equal(sample_crops(plate.lake, KEY, CARD, n=2), crops[[0, 2]])


def test_the_models_channels_are_cut_in_its_order(plate):
    plate.publish()
    card = Card(
        name="two",
        version="1",
        dtype="uint16",
        channels=("AGP", "RNA", "DNA"),
        missing="zero",
        crop=32,
        output_width=1,
        digest="0" * 64,
        licence="MIT",
    )
    crops = sample_crops(plate.lake, KEY, card)
    every = sample_crops(plate.lake, KEY, CARD)
    assert np.array_equal(crops[:, [0, 2]], every[:, [2, 0]])
    assert not crops[:, 1].any()


def test_a_plate_that_is_not_there_or_of_stacks_only_is_refused(plate):
    with pytest.raises(InputError, match="run phenopipe ingest on HUVEC-1/Plate3 first"):
        sample_crops(plate.lake, KEY, CARD)
    plate.paths = ("1z",)
    plate.publish()
    with pytest.raises(InputError, match="z-stacks only"):
        sample_crops(plate.lake, KEY, CARD)
