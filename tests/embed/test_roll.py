import pytest
from hypothesis import given
from hypothesis import strategies as st

from phenopipe.embed.pieces import Piece
from phenopipe.embed.roll import Roll
from phenopipe.lake import Thing
from phenopipe.plates import FieldKey, Well

FIELDS = [FieldKey(Well(0, column), field) for column in range(5) for field in (1, 2)]


def piece(*fields):
    return Piece(Thing(f"pieces/m/e/p/{fields[0]}.arrow"), fields, "")


@pytest.fixture
def roll():
    return Roll(FIELDS)


def test_what_is_left_comes_in_runs_of_neighbours(roll):
    assert roll.left() == [FIELDS]
    assert roll.take(piece(*FIELDS[2:4]))
    roll.skip(FIELDS[7], "its worker died")
    assert roll.left() == [FIELDS[:2], FIELDS[4:7], FIELDS[8:]]
    assert roll.settled == 3


def test_no_field_is_taken_twice(roll):
    assert roll.take(piece(*FIELDS[2:4]))
    assert not roll.take(piece(*FIELDS[3:6]))
    roll.skip(FIELDS[7], "its worker died")
    assert not roll.take(piece(*FIELDS[6:9]))


def test_a_piece_of_other_neighbours_is_not_taken(roll):
    stranger = FieldKey(Well(7, 11), 1)
    assert not roll.take(piece(stranger))
    assert not roll.take(piece(FIELDS[0], stranger))
    assert not roll.take(piece(FIELDS[0], FIELDS[2]))


@given(order=st.permutations(range(len(FIELDS))), given_up=st.sets(st.sampled_from(FIELDS)))
def test_pieces_come_out_once_and_in_order(order, given_up):
    roll, found = Roll(FIELDS), []
    for place in order:
        field = FIELDS[place]
        if field in given_up:
            roll.skip(field, "its worker died")
        else:
            assert roll.take(piece(field))
        found += [ready.fields[0] for ready in roll.pop_ready()]
    assert found == [field for field in FIELDS if field not in given_up]
