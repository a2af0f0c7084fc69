import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phenopipe.errors import InputError
from phenopipe.plates import PlateKey, Well, clean_name, plate_shape

wells = st.builds(Well, st.integers(0, 31), st.integers(0, 47))


@given(wells)
def test_a_well_reads_back_from_its_name_in_any_spelling(well):
    unpadded = well.row_name + str(well.column + 1)
    for spelling in (str(well), str(well).lower(), unpadded, f" {well} "):
        assert Well.parse(spelling) == well


@given(st.lists(wells, min_size=1))
def test_wells_sort_row_by_row(found):
    keys = [(w.row, w.column) for w in sorted(found)]
    assert keys == sorted(keys)


@pytest.mark.parametrize("text", ["", "A0", "A49", "AG01", "1A", "A-1", "ZZ1", "A1B", "Ä1", "A²"])
def test_what_is_no_well_is_refused(text):
    with pytest.raises(InputError, match="expected a well name"):
        Well.parse(text)


@pytest.mark.parametrize(
    ("well", "shape"), [("H12", (8, 12)), ("A13", (16, 24)), ("I01", (16, 24)), ("AF48", (32, 48))]
)
def test_the_smallest_plate_that_holds_the_wells(well, shape):
    assert plate_shape([Well(0, 0), Well.parse(well)]) == shape


@pytest.mark.parametrize(
    "name", ["..", "../x", "/etc", "a/b", "a\\b", ".hidden", "", "x" * 121, "a\n"]
)
def test_no_name_can_leave_the_lake(name):
    with pytest.raises(InputError, match="plate name"):
        PlateKey("E", name)


@given(st.text())
def test_a_cleaned_name_is_safe_or_empty(text):
    name = clean_name(text)
    assert set(name) <= set(string.ascii_letters + string.digits + "._+-")
    if name:
        PlateKey("E", name)
