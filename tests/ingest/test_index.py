from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from phenopipe.ingest.index import ImageFile, PlateIndex, find_absent, sort_images
from phenopipe.plates import FieldKey, Well

A01, B02 = Well.parse("A01"), Well.parse("B02")
PLANES = [("1", None, 0), ("2", None, 0), ("1", 0, 0), ("1", 1, 0), ("2", 0, 0)]
FULL = [
    ImageFile(f"{well}-{field}-{plane}", well, field, *plane)
    for well in (A01, B02)
    for field in (1, 2)
    for plane in PLANES
]


@given(st.permutations(FULL))
def test_the_order_of_files_on_disk_does_not_matter(images):
    assert sort_images(images, ["1", "2"]) == sort_images(FULL, ["1", "2"])


def test_channels_sort_as_the_plate_orders_them():
    tenth, second = ImageFile("a", A01, 1, "10"), ImageFile("b", A01, 1, "2")
    assert sort_images([tenth, second], ["2", "10"]) == (second, tenth)


@given(st.sets(st.sampled_from(range(len(FULL)))))
def test_absent_are_the_images_taken_away(taken):
    """As long as one field still has the plane: what no field has is not known to be absent."""
    left = [image for number, image in enumerate(FULL) if number not in taken]
    known = {image.plane for image in left}
    away = [FULL[number] for number in taken if FULL[number].plane in known]
    absent = find_absent(left, {image.field_key for image in FULL})
    assert {(i.field_key, i.plane) for i in absent} == {(i.field_key, i.plane) for i in away}
    assert len(absent) == len(away)


def test_a_ragged_stack_lacks_nothing():
    assert find_absent(FULL, {image.field_key for image in FULL}) == []


def test_a_plate_tells_its_wells_and_fields():
    plate = PlateIndex(
        folder=Path("plate"),
        layout="imagexpress",
        reason="",
        plate="plate",
        images=tuple(FULL),
        channels={"1": "DNA", "2": "RNA"},
        shape=(8, 12),
    )
    assert plate.wells == [A01, B02]
    assert plate.fields == [FieldKey(well, field) for well in (A01, B02) for field in (1, 2)]
