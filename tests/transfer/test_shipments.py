from itertools import chain

import pytest

from phenopipe.errors import InputError
from phenopipe.lake import Lake, Thing, embeddings, landing, plate_image, platemap, qc_table
from phenopipe.plates import PlateKey
from phenopipe.transfer import Parcel, Selection, list_shipments
from tests.transfer.lakes import PLATES, fill, publish, publish_plate


@pytest.fixture
def lake(tmp_path):
    return fill(Lake(tmp_path))


def names(lake, **chosen):
    shipments = list_shipments(lake, Selection(**chosen))
    return {one.name: [parcel.name for parcel in one.parcels] for one in shipments}


def test_models_come_first_then_plates_by_experiment(root):
    lake = fill(Lake(root))
    assert names(lake) == {
        "models": ["models/vit/1"],
        "HUVEC-1": ["HUVEC-1/P1", "HUVEC-1/P2"],
        "U2OS-1": ["U2OS-1/P1"],
    }


def test_a_plate_comes_in_the_order_in_which_it_is_made(lake):
    publish(lake, landing(PLATES[0]), {".": b"of a folder on this machine"})
    (_, first, _) = list_shipments(lake, Selection())
    key = PLATES[0]
    made = (platemap(key), qc_table(key), plate_image(key), embeddings("vit", key))
    assert first.parcels[0] == Parcel("HUVEC-1/P1", made)


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({"experiments": ("HUVEC-*",)}, ["HUVEC-1/P1", "HUVEC-1/P2"]),
        ({"plates": ("P2",)}, ["HUVEC-1/P2"]),
        ({"plates": ("P1", "P2"), "experiments": ("U2OS-1", "HUVEC-1")}, None),
        ({"plates": ("P?",), "experiments": ("U2OS-1",)}, ["U2OS-1/P1"]),
    ],
)
def test_names_and_patterns_choose(lake, chosen, found):
    listed = names(lake, **chosen)
    assert listed.pop("models") == ["models/vit/1"]
    assert list(chain(*listed.values())) == (found or ["HUVEC-1/P1", "HUVEC-1/P2", "U2OS-1/P1"])


def test_a_model_chooses_what_it_embedded(lake):
    publish(lake, embeddings("other", PLATES[0]), {".": b"vectors"})
    (shipment,) = list_shipments(lake, Selection(("HUVEC-1",), ("P1",), ("other",)))
    kinds = [thing.kind for thing in shipment.parcels[0].things]
    assert kinds == ["platemaps", "qc", "images", "embeddings"]
    assert shipment.parcels[0].things[-1] == embeddings("other", PLATES[0])


def test_embeddings_without_their_image_are_sent_too(tmp_path):
    lake = Lake(tmp_path)
    publish(lake, embeddings("vit", PLATES[0]), {".": b"vectors"})
    assert names(lake) == {"HUVEC-1": ["HUVEC-1/P1"]}


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"experiments": ("HUVEC-1", "K562-1")}, "expected a published experiment K562-1 in"),
        ({"plates": ("P1", "P9*")}, r"expected a published plate P9\* in"),
        ({"plates": ("P2",), "experiments": ("U2OS-1",)}, "expected a published plate P2 in"),
        ({"models": ("vitt",)}, "expected a published model vitt in"),
    ],
)
def test_a_name_that_finds_nothing_is_told_before_anything_is_sent(lake, chosen, told):
    with pytest.raises(InputError, match=told):
        next(list_shipments(lake, Selection(**chosen)))


def test_an_empty_lake_is_told(root):
    with pytest.raises(InputError, match=r"expected plates or models in .*: check the root"):
        next(list_shipments(Lake(root), Selection()))


def test_a_name_that_phenopipe_never_gives_is_refused(tmp_path):
    lake = Lake(tmp_path)
    publish(lake, Thing("qc/HUVEC-1/Plate 3.parquet"), {".": b"x"})
    with pytest.raises(InputError, match="found 'Plate 3'"):
        list(list_shipments(lake, Selection()))


def test_plates_are_listed_an_experiment_at_a_time(bucket_root, emulator):
    lake = Lake(bucket_root)
    for number in range(4):
        publish_plate(lake, PlateKey(f"E{number}", "P1"))
    shipments = list_shipments(lake, Selection())
    next(shipments)
    emulator.count()
    for _ in range(3):
        next(shipments)
        # Eight folders, and the three that are not there are asked for again as files.
        assert emulator.count() == {"GET": 11}
