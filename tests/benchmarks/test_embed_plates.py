"""Growth of memory from plate to plate, told from plain figures."""

import numpy as np

from benchmarks.embed_plates import describe_growth


def test_a_leak_is_told_by_its_slope_whatever_the_first_plates_did():
    sizes = [50.0 * k for k in range(10)] + [500 + 2.0 * k for k in range(90)]
    told = describe_growth(sizes)
    assert "plates 11 to 20: 509 MiB; 91 to 100: 669 MiB" in told
    assert "+2.000 MiB a plate (+2.000 to +2.000)" in told


def test_noise_without_growth_has_an_interval_around_zero():
    sizes = 500 + np.random.default_rng(1).normal(0, 5, 100)
    interval = describe_growth(list(sizes)).rpartition("(")[2].rstrip(")")
    least, most = (float(part) for part in interval.split(" to "))
    assert least < 0 < most
