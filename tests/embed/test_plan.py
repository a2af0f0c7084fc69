import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phenopipe.config import EmbedConfig
from phenopipe.embed import plan_crops
from phenopipe.embed.rescale import Scale
from phenopipe.errors import InputError
from phenopipe.models import Card

PLATE = ["DNA", "ER", "AGP"]


def make_card(channels="any", **more):
    return Card(
        name="m",
        version="1",
        dtype="uint16",
        channels=channels,
        crop=32,
        output_width=8,
        digest="0" * 64,
        licence="MIT",
        **more,
    )


def plan(card, labels=PLATE, image=None, **config):
    return plan_crops(card, EmbedConfig(**config), labels=labels, image=image or {}, where="E/P")


def image_of(pixel_um, levels=2):
    axes = [{"name": a, "unit": "micrometer"} for a in "yx"]
    datasets = [
        {"coordinateTransformations": [{"type": "scale", "scale": [pixel_um * 2**k] * 2}]}
        for k in range(levels)
    ]
    return {"ome": {"multiscales": [{"axes": axes, "datasets": datasets}]}}


def test_crops_are_the_cards_unless_set():
    assert (plan(make_card()).crop, plan(make_card()).stride) == (32, 32)
    asked = plan(make_card(), crop=64, stride=16, edge="pad", turns=4, per="field")
    assert (asked.crop, asked.stride, asked.edge) == (64, 16, "pad")
    assert (asked.turns, asked.per) == (4, "field")
    assert plan(make_card(), crop=64).stride == 64


def test_a_plan_travels():
    made = plan(make_card(pixel_size_um=0.65), image=image_of(0.325))
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301


def test_a_model_of_any_channels_sees_all_by_the_plates_names():
    assert plan(make_card()).channels == (0, 1, 2)
    assert plan(make_card()).names == ("DNA", "ER", "AGP")


@pytest.mark.parametrize(
    ("missing", "channels", "names"),
    [
        ("zero", (2, None, 0), ("AGP", "Mito", "DNA")),
        ("drop", (2, 0), ("AGP", "DNA")),
    ],
)
def test_a_channel_that_is_missing_is_zero_or_absent_as_the_card_says(missing, channels, names):
    made = plan(make_card(("AGP", "Mito", "DNA"), missing=missing))
    assert (made.channels, made.names) == (channels, names)


def test_a_channel_that_is_missing_fails_otherwise():
    with pytest.raises(InputError, match=r"found DNA, ER, AGP \(Mito missing\)"):
        plan(make_card(("AGP", "Mito")))


def test_case_and_spaces_make_no_other_stain():
    made = plan(make_card(("Golgi actin", "DNA")), labels=["dna", "golgi_Actin"])
    assert (made.channels, made.names) == ((1, 0), ("Golgi actin", "DNA"))


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("DNA",), ["dna", "Dna"]),  # either may be meant
        (("AGP 1", "AGP-1"), ["agp1"]),
    ],
)
def test_a_name_that_could_mean_two_is_never_guessed(names, labels):
    with pytest.raises(InputError, match="missing"):
        plan(make_card(names), labels=labels)


def test_another_name_of_the_same_dye_is_never_guessed():
    with pytest.raises(InputError, match="name them so when ingesting"):
        plan(make_card(("DNA",)), labels=["Hoechst 33342"])


@given(st.permutations(PLATE))
def test_the_plates_order_of_channels_does_not_matter(labels):
    made = plan(make_card(("AGP", "DNA")), labels=labels)
    assert [labels[index] for index in made.channels] == ["AGP", "DNA"]
    assert made.names == ("AGP", "DNA")


def test_a_plate_is_brought_to_the_models_pixels():
    card = make_card(pixel_size_um=0.65)
    assert plan(card, image=image_of(0.325)).scale == Scale(level=1)
    assert plan(card, image=image_of(0.325, levels=1)).scale == Scale(halvings=1)
    assert plan(card, image=image_of(1.3)).scale == Scale(zoom=2.0)
    assert plan(card, image=image_of(0.325), rescale=False).scale == Scale()
    assert plan(make_card(), image=image_of(0.325)).scale == Scale()


def test_a_plate_of_unknown_pixels_is_refused_where_the_model_has_a_size():
    with pytest.raises(InputError, match=r"size of a pixel in E/P.*set embed\.rescale=false"):
        plan(make_card(pixel_size_um=0.65))
    assert plan(make_card(pixel_size_um=0.65), rescale=False).scale == Scale()
