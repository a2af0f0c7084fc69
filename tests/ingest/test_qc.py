import numpy as np
import pytest
from scipy import ndimage

from phenopipe.config import QCConfig
from phenopipe.ingest.qc import MEASURES, judge_fields, measure_field


def measure(image, name):
    field = image if image.ndim == 3 else image[None]
    return measure_field(field)[0, MEASURES.index(name)]


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def draw_cells(rng, n=12, size=112, blur=0.0):
    """Draw round nuclei of radius 5 on a dark background, with camera noise."""
    centres = np.mgrid[8:size:16, 8:size:16].reshape(2, -1).T
    dots = np.zeros((size, size))
    dots[tuple(rng.permutation(centres)[:n].T)] = 1
    y, x = np.mgrid[-5:6, -5:6]
    signal = 3000 * ndimage.grey_dilation(dots, footprint=np.hypot(y, x) < 5.5)
    blurred = ndimage.gaussian_filter(signal, blur) if blur else signal
    return (200 + blurred + rng.normal(0, 10, signal.shape)).clip(0, 65535).astype("uint16")


@pytest.mark.parametrize("bits", [8, 12, 14, 16])
def test_saturated_is_the_share_of_pixels_at_the_cameras_maximum(bits):
    image = np.full((40, 50), 90, "uint16")
    image.flat[:100] = 2**bits - 1
    assert measure(image, "saturated") == 100 / 2000


def test_a_maximum_that_is_no_cameras_is_not_saturation():
    image = np.full((40, 50), 90, "uint16")
    image.flat[:100] = 3000
    assert measure(image, "saturated") == 0


def test_mean_is_exact_for_bright_sixteen_bit_images(rng):
    image = rng.integers(0, 65536, (300, 301), dtype="uint16")
    assert measure(image, "mean") == pytest.approx(image.mean(), rel=1e-6)


def test_background_is_the_fifth_percentile(rng):
    image = rng.integers(0, 1000, (400, 400)).astype("uint16")
    assert measure(image, "background") == pytest.approx(50, abs=5)


def test_foreground_is_the_share_that_stands_out_of_noise(rng):
    image = 200 + rng.normal(0, 5, (200, 200))
    assert measure(image.astype("uint16"), "foreground") < 0.002
    image[:, :40] += 500
    assert measure(image.astype("uint16"), "foreground") == pytest.approx(0.2, abs=0.005)


def test_focus_of_white_noise_is_one_and_blur_lowers_it(rng):
    noise = rng.normal(20000, 1000, (300, 300))
    assert measure(noise, "focus") == pytest.approx(1, abs=0.02)
    blurs = [ndimage.gaussian_filter(noise, sigma) for sigma in (0, 1, 2, 4)]
    focus = [measure(image, "focus") for image in blurs]
    assert focus == sorted(focus, reverse=True)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", [(256, 256), (200, 300)])
def test_spectrum_slope_of_power_law_noise_is_its_exponent(rng, exponent, shape):
    side = min(shape)
    y, x = np.fft.fftfreq(shape[0])[:, None] * side, np.fft.rfftfreq(shape[1])[None, :] * side
    frequency = np.hypot(y, x)
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.normal(size=shape)) * frequency ** (-exponent / 2)
    slope = measure(np.fft.irfft2(spectrum, shape), "spectrum_slope")
    assert slope == pytest.approx(-exponent, abs=0.15)


@pytest.mark.parametrize("n", [1, 7, 20])
def test_cells_are_counted_in_the_first_channel_only(rng, n):
    field = np.stack([draw_cells(rng, n), draw_cells(rng, n)])
    assert measure_field(field)[:, MEASURES.index("cells")].tolist() == [n, 0]


def test_a_blank_field_has_no_focus_and_fails_as_empty():
    measures = measure_field(np.zeros((2, 64, 64), "uint16"))
    assert np.isnan(measures[:, MEASURES.index("focus")]).all()
    assert judge_fields(measures[None], QCConfig()) == [("fail", "empty")]


def draw_plate(rng, n=24):
    return [np.stack([draw_cells(rng), draw_cells(rng), draw_cells(rng)]) for _ in range(n)]


def judge(fields, **thresholds):
    measures = np.stack([measure_field(field) for field in fields])
    return judge_fields(measures, QCConfig(**thresholds))


def test_only_the_blurred_saturated_and_empty_fields_fail(rng):
    fields = draw_plate(rng)
    fields[3] = np.stack([draw_cells(rng, blur=4.0) for _ in range(3)])
    fields[5][1, :40, :40] = 65535
    fields[7] = rng.normal(200, 10, fields[7].shape).astype("uint16")
    verdicts = judge(fields)
    failed = {number: v.reason for number, v in enumerate(verdicts) if v.verdict == "fail"}
    assert failed == {3: "out_of_focus", 5: "saturated", 7: "empty"}


def test_one_blurred_channel_of_three_is_a_warning(rng):
    fields = draw_plate(rng)
    fields[3][1] = draw_cells(rng, blur=4.0)
    assert judge(fields)[3] == ("warn", "out_of_focus")


def test_focus_is_not_judged_against_too_few_fields(rng):
    fields = draw_plate(rng, n=6)
    fields[3] = np.stack([draw_cells(rng, blur=4.0) for _ in range(3)])
    assert judge(fields, min_fields=7)[3].verdict == "pass"
    assert judge(fields, min_fields=6)[3].verdict == "fail"


def test_verdicts_do_not_depend_on_the_order_of_fields(rng):
    fields = draw_plate(rng, n=20)
    fields[3] = np.stack([draw_cells(rng, blur=4.0) for _ in range(3)])
    assert judge(fields[::-1]) == judge(fields)[::-1]
