"""The projection to RxRx3, by hand."""

import pytest

from benchmarks.projection import CROPS, Costs, describe_projection


def test_rxrx3_has_139_million_crops():
    assert CROPS == 64 * 1380 * 9 * 175 == 139_104_000


@pytest.mark.parametrize(("gpus", "hours"), [(1, "8.6 h"), (8, "1.1 h")])
def test_hours_are_crops_by_the_rate_of_all_gpus(gpus, hours):
    told = describe_projection(Costs(4500.0, packing=0.5, row_bytes=1600), gpus=(gpus,))
    assert hours in told
    assert "54.7 TB" in told  # half of 2,173,500 fields x 6 x 2048 x 2048 x 2 bytes
    assert "223 GB" in told
