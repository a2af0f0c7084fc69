from phenopipe.lake import Lake, plate_image
from phenopipe.transfer import Selection, add_up, estimate_shipment, list_shipments
from tests.transfer.lakes import PLATES, publish_plate, read_all, send_all


def estimate(source, target, **options):
    shipments = list_shipments(source, Selection())
    return add_up([estimate_shipment(source, target, one, **options) for one in shipments])


def test_an_estimate_is_what_is_then_sent(lakes):
    source, target = lakes
    before = estimate(source, target)
    assert read_all(target) == {}, "nothing is written"
    sent = send_all(source, target).values()
    assert before.files == sum(one.files for one in sent)
    assert before.bytes == sum(one.bytes for one in sent)
    assert (before.parcels, before.there, before.refused) == (4, 0, 0)
    after = estimate(source, target)
    assert (after.there, after.files, after.bytes) == (4, 0, 0)


def test_what_is_refused_is_not_counted(tmp_path):
    source, target = Lake(tmp_path / "a"), Lake(tmp_path / "b")
    for key in PLATES[:2]:
        publish_plate(source, key)
    publish_plate(target, PLATES[0], version=2)
    one, all_of_it = estimate(source, target), estimate(source, target, replace=True)
    assert (one.parcels, one.refused, one.files) == (2, 1, 9)
    assert (all_of_it.refused, all_of_it.files) == (0, 18)


def test_files_of_a_transfer_that_broke_off_count_as_yet_to_be_sent(tmp_path):
    source, target = Lake(tmp_path / "a"), Lake(tmp_path / "b")
    publish_plate(source, PLATES[0])
    with target.draft(plate_image(PLATES[0]), "zarr.json") as path:
        path.write_bytes(b"{}")
    assert estimate(source, target).files == 9
    assert send_all(source, target)["HUVEC-1"].files == 8
