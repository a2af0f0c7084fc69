import pytest
from pydantic import ValidationError

from phenopipe.errors import InputError
from phenopipe.models import Card, classical_card


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


def test_a_card_without_width_or_features_is_refused():
    with pytest.raises(ValidationError, match="either output_width or channel_features"):
        make_card(output_width=None)


def test_releases_compare_as_numbers():
    assert make_card(version="1.10").release > make_card(version="1.9").release
