import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phenopipe.errors import InputError
from phenopipe.models.batches import Batches, OutOfMemory


def make_crops(n):
    return np.arange(n, dtype=np.uint16).reshape(n, 1, 1, 1) + np.uint16(7)


def tell_size(crops):
    """A vector a crop, of other bits in runs of another size: as a GPU's kernels may be."""
    values = crops.reshape(len(crops), -1).astype(np.float32)
    return np.hstack([values, np.full_like(values, len(crops))])


def forget_size(crops):
    return tell_size(crops)[:, :1]


class Device:
    """A device with memory for so many crops, that notes the runs it did."""

    def __init__(self, room, give=forget_size):
        self.room, self.give, self.runs = room, give, []

    def __call__(self, crops):
        if len(crops) > self.room:
            raise OutOfMemory(f"{len(crops)} crops")
        time.sleep(0.002)  # a run takes as long with any number of crops, so more are faster
        self.runs.append(len(crops))
        return self.give(crops)


@given(n=st.integers(1, 40), batch=st.sampled_from([1, 2, 4, 8, 16]))
def test_the_bits_are_those_of_one_size(n, batch):
    crops = make_crops(n)
    found = Batches(batch, most=64).run_all(tell_size, crops)
    assert found.tolist() == [[value, batch] for value in crops.ravel()]


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_every_crop_has_its_vector_whatever_the_sizes(sizes):
    batches = Batches(8, most=64)
    for n in sizes:
        assert batches.run_all(forget_size, make_crops(n)).tolist() == [[7 + k] for k in range(n)]


def test_a_larger_size_is_taken_where_it_is_faster_with_the_same_bits():
    device, batches = Device(room=64), Batches(4, most=16)
    batches.run_all(device, make_crops(64))
    device.runs.clear()
    batches.run_all(device, make_crops(64))
    assert device.runs == [16, 16, 16, 16]


def test_a_faster_size_with_other_bits_is_not_taken():
    device, batches = Device(room=64, give=tell_size), Batches(4, most=16)
    batches.run_all(device, make_crops(16))
    device.runs.clear()
    batches.run_all(device, make_crops(16))
    assert device.runs == [4, 4, 4, 4]


@pytest.mark.parametrize(("give", "then"), [(forget_size, 2), (tell_size, 8)])
def test_a_short_run_is_padded_unless_fewer_crops_give_the_same_bits(give, then):
    device, batches = Device(room=64, give=give), Batches(8, most=16)
    batches.run_all(device, make_crops(2))
    device.runs.clear()
    batches.run_all(device, make_crops(2))
    assert device.runs == [then]


def test_where_nothing_is_tried_the_sizes_follow_from_the_number_of_crops():
    device, batches = Device(room=64), Batches(8, most=8)
    for n in (35, 35, 3):
        batches.run_all(device, make_crops(n))
    assert device.runs == [8, 8, 8, 8, 3] * 2 + [3]


def test_a_graph_of_a_fixed_number_is_given_no_other():
    device = Device(room=64)
    Batches(8, most=64, fixed=True).run_all(device, make_crops(35))
    assert set(device.runs) == {8}


def test_the_size_is_halved_until_it_fits_and_stays_so():
    device, batches = Device(room=20), Batches(64, most=1024)
    assert len(batches.run_all(device, make_crops(64))) == 64
    assert device.runs == [16] * 4
    assert batches.batch == 16


def test_the_size_goes_no_further_than_memory():
    device, batches = Device(room=20), Batches(4, most=1024)
    batches.run_all(device, make_crops(64))
    device.runs.clear()
    batches.run_all(device, make_crops(64))
    assert device.runs == [16] * 4


def test_memory_that_others_take_meanwhile_costs_speed_and_no_bits():
    device, batches = Device(room=64), Batches(8, most=64)
    batches.run_all(device, make_crops(3))
    batches.run_all(device, make_crops(64))
    device.room = 4
    assert batches.run_all(device, make_crops(10)).ravel().tolist() == list(range(7, 17))
    device.room = 1
    with pytest.raises(OSError, match="expected memory for 2 crops a run as before"):
        batches.run_all(device, make_crops(10))


def test_no_memory_for_one_crop_is_told():
    with pytest.raises(InputError, match="expected memory for 1 crops a run, found none"):
        Batches(8, most=8).run_all(Device(room=0), make_crops(3))
    with pytest.raises(InputError, match="expected memory for 8 crops a run, found none"):
        Batches(8, most=8, fixed=True).run_all(Device(room=4), make_crops(3))
