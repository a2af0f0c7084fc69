import json

import pytest
from pydantic import ValidationError

from phenopipe.errors import InputError
from phenopipe.models import Card, classical_card
from phenopipe.models.card import read_card


def make_card(**changes):
    entries = {
        "name": "vit",
        "version": "1",
        "dtype": "uint8",
        "channels": 6,
        "crop": 256,
        "output_width": 384,
        "digest": "0" * 64,
        "licence": "CC-BY-NC-4.0",
        "parity": {"max_abs": 1e-5},
    }
    return Card(**(entries | changes))


@pytest.mark.parametrize("card", [make_card(), make_card(channels=("DNA", "ER")), classical_card()])
def test_a_card_survives_json(card):
    assert Card.model_validate_json(card.model_dump_json()) == card


def test_width_and_names_follow_from_the_channels():
    card = classical_card()
    for n_channels, width in ((1, 22), (2, 46), (6, 162)):
        names = card.feature_names([f"w{k}" for k in range(n_channels)])
        assert card.width(n_channels) == len(set(names)) == width
    assert make_card().width(6) == 384
    assert make_card().feature_names(["DNA"]) == ()


def test_named_channels_are_picked_in_the_models_order():
    card = make_card(channels=("DNA", "ER"))
    assert card.pick_channels(["ER", "AGP", "DNA"], where="E/P") == [2, 0]


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (("DNA", "RNA", "Mito"), r"found ER, DNA \(RNA, Mito missing\): choose"),
        (6, r"expected 6 channels in E/P for model vit, found 2 \(ER, DNA\)"),
    ],
)
def test_missing_channels_are_named(channels, message):
    with pytest.raises(InputError, match=message):
        make_card(channels=channels).pick_channels(["ER", "DNA"], where="E/P")


def test_a_channel_more_than_a_model_takes_is_refused():
    card = make_card(channels="any", max_channels=2)
    assert card.pick_channels(["ER", "DNA"], where="E/P") == [0, 1]
    with pytest.raises(InputError, match=r"expected at most 2 channels in E/P .*, found 3"):
        card.pick_channels(["ER", "DNA", "AGP"], where="E/P")


@pytest.mark.parametrize(("missing", "picked"), [("zero", [1, None, 0]), ("drop", [1, 0])])
def test_a_missing_channel_is_zeros_or_left_out_as_the_card_says(missing, picked):
    card = make_card(channels=("DNA", "RNA", "ER"), missing=missing)
    assert card.pick_channels(["ER", "DNA"], where="E/P") == picked
    with pytest.raises(InputError, match=r"\(DNA, RNA, ER missing\)"):
        card.pick_channels(["Mito", "AGP"], where="E/P")


@pytest.mark.parametrize(
    ("changes", "free"),
    [
        ({"channels": "any"}, True),
        ({"channels": 6}, False),
        ({"channels": ("DNA",)}, False),
        ({"channels": ("DNA",), "missing": "zero"}, False),
        ({"channels": ("DNA",), "missing": "drop"}, True),
    ],
)
def test_a_graphs_channel_axis_is_free_or_not(changes, free):
    assert make_card(**changes).free_channels == free


def test_channelwise_output_grows_with_the_channels():
    card = make_card(channels="any", output_width=None, channel_width=384)
    assert [card.width(n) for n in (1, 6, 11)] == [384, 2304, 4224]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_width": None}, "one of output_width, channel_width and channel_features"),
        ({"channel_width": 8}, "one of output_width, channel_width and channel_features"),
        ({"missing": "zero"}, "channels by name where missing is zero"),
        ({"max_channels": 11}, "max_channels only where channels is any"),
        ({"channels": ()}, "at least 1 item"),
        ({"channels": 0}, "greater than or equal to 1"),
        ({"channels": ("DNA", "DNA")}, "each channel once"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        make_card(**changes)


def test_a_card_of_an_earlier_release_is_read():
    earlier = make_card().model_dump(include={"name", "version", "dtype", "channels", "crop"})
    earlier |= {"output_width": 384, "digest": "0" * 64, "licence": "MIT"}
    assert read_card(json.dumps(earlier).encode(), where="card.json").precision == "fp32"


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b"{"])
def test_what_is_no_card_is_refused(content):
    with pytest.raises(InputError, match=r"expected a model's card in card\.json, found"):
        read_card(content, where="card.json")


def test_releases_compare_as_numbers():
    assert make_card(version="1.10").release > make_card(version="1.9").release
