import numpy as np
import pytest
from scipy import ndimage

from phenopipe.ingest.qc import MEASURES, find_nuclear_channel, measure_field

SHARPNESS = ("focus", "spectrum_slope", "detail")


def measure(image, name):
    field = image if image.ndim == 3 else image[None]
    return measure_field(field)[0, MEASURES.index(name)]


def name_measures(image):
    return dict(zip(MEASURES, measure_field(image[None])[0], strict=True))


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def count(light):
    """Counts of a camera of 16 bits."""
    return np.rint(light).clip(0, 65535).astype("uint16")


def draw_nuclei(rng, n=12, *, size=112, radius=5, blur=0.0):
    """Draw round nuclei that do not touch on a dark background, with camera noise."""
    step = 3 * radius + 1
    centres = np.mgrid[step // 2 : size - radius : step, step // 2 : size - radius : step]
    dots = np.zeros((size, size), bool)
    dots[tuple(rng.permutation(centres.reshape(2, -1).T)[:n].T)] = True
    inside = ndimage.distance_transform_edt(~dots) < radius + 0.5 if n else dots
    signal = 3000.0 * inside
    blurred = ndimage.gaussian_filter(signal, blur) if blur else signal
    return count(200 + blurred + rng.normal(0, 10, signal.shape))


@pytest.mark.parametrize("size", [50, 700])
@pytest.mark.parametrize("bits", [8, 12, 14, 16])
def test_saturated_is_the_share_of_all_pixels_at_the_cameras_maximum(bits, size):
    image = np.full((40, size), 90, "uint16")
    image.flat[:101] = 2**bits - 1
    assert measure(image, "saturated") == 101 / image.size


def test_a_maximum_that_is_no_cameras_is_not_saturation():
    image = np.full((40, 50), 90, "uint16")
    image.flat[:100] = 3000
    assert measure(image, "saturated") == 0


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(300, 301), (1030, 2050)])
def test_mean_is_exactly_that_of_all_pixels(rng, shape, dtype):
    image = rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    assert measure(image, "mean") == pytest.approx(image.mean(dtype=float), rel=1e-12)


@pytest.mark.parametrize("size", [400, 2048])
def test_background_is_the_fifth_percentile(rng, size):
    image = rng.integers(0, 1000, (size, size), dtype="uint16")
    assert measure(image, "background") == pytest.approx(np.percentile(image, 5), abs=5)


@pytest.mark.parametrize("size", [200, 1200])
def test_foreground_is_the_share_that_stands_out_of_noise(rng, size):
    image = 200 + rng.normal(0, 5, (size, size))
    assert measure(count(image), "foreground") < 0.002
    image[:, : size // 5] += 500
    assert measure(count(image), "foreground") == pytest.approx(0.2, abs=0.005)


@pytest.mark.parametrize("size", [300, 1080])
def test_white_noise_has_focus_one_slope_zero_and_no_detail(rng, size):
    noise = count(rng.normal(20000, 1000, (size, size)))
    focus, slope, detail = (measure(noise, name) for name in SHARPNESS)
    assert focus == pytest.approx(1, abs=0.02)
    assert slope == pytest.approx(0, abs=0.05)
    assert detail == 0


@pytest.mark.parametrize("size", [160, 512, 1080])
def test_blur_lowers_focus_and_detail(rng, size):
    cells = 3000 * (ndimage.gaussian_filter(rng.normal(size=(size, size)), 6) > 0.02)
    cells = cells * (1 + 0.2 * ndimage.gaussian_filter(rng.normal(size=cells.shape), 0.7))
    blurs = [ndimage.gaussian_filter(cells, sigma) for sigma in (0.7, 1.5, 3, 6)]
    images = [count(300 + blurred + rng.normal(0, 10, blurred.shape)) for blurred in blurs]
    for name in ("focus", "detail"):
        values = [measure(image, name) for image in images]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", [(256, 256), (200, 300), (1024, 1100)])
def test_spectrum_slope_of_power_law_noise_is_its_exponent(rng, exponent, shape):
    side = min(shape)
    y, x = np.fft.fftfreq(shape[0])[:, None] * side, np.fft.rfftfreq(shape[1])[None, :] * side
    frequency = np.hypot(y, x)
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(rng.normal(size=shape)) * frequency ** (-exponent / 2)
    pattern = np.fft.irfft2(spectrum, shape)
    image = count(30000 + 6000 * (pattern - pattern.mean()) / pattern.std())
    assert measure(image, "spectrum_slope") == pytest.approx(-exponent, abs=0.15)


@pytest.mark.parametrize("cutoff", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("size", [256, 1024])
def test_detail_is_the_frequency_at_which_the_signal_ends(rng, cutoff, size):
    y, x = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    signal = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(size, size))) * (np.hypot(y, x) < cutoff))
    image = count(20000 + 3000 * signal / signal.std() + rng.normal(0, 50, signal.shape))
    assert measure(image, "detail") == pytest.approx(cutoff, abs=0.03)


@pytest.mark.parametrize("n", [0, 1, 7, 20])
def test_cells_are_counted_in_the_nuclear_channel_only(rng, n):
    field = np.stack([draw_nuclei(rng, 3), draw_nuclei(rng, n)])
    cells = measure_field(field, nuclear=1)[:, MEASURES.index("cells")]
    assert np.isnan(cells[0])
    assert cells[1] == n


@pytest.mark.parametrize(("size", "radius"), [(1080, 12), (2048, 23)])
@pytest.mark.parametrize("n", [40, 150])
def test_cells_of_a_large_field_are_counted(rng, n, size, radius):
    assert measure(draw_nuclei(rng, n, size=size, radius=radius), "cells") == n


@pytest.mark.parametrize(
    ("labels", "nuclear"),
    [
        (["ER", "RNA", "DNA"], 2),
        (["SYTO14 nucleoli", "Nuclei"], 1),
        (["Brightfield", "HOECHST 33342"], 1),
        (["FITC_05", "FITC_05 (2)"], 0),
    ],
)
def test_the_nuclear_channel_is_known_by_its_label(labels, nuclear):
    assert find_nuclear_channel(labels) == nuclear


@pytest.mark.parametrize("value", [0, 500])
def test_a_field_without_contrast_has_no_sharpness_and_no_cells(value):
    measures = name_measures(np.full((64, 64), value, "uint16"))
    assert all(np.isnan(measures[name]) for name in SHARPNESS)
    assert (measures["mean"], measures["background"]) == (value, value)
    assert measures["cells"] == measures["foreground"] == 0


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 700), (8, 8), (513, 1025)])
def test_any_shape_is_measured(rng, shape):
    image = rng.integers(0, 255, shape, dtype="uint8")
    assert measure(image, "mean") == pytest.approx(image.mean())
    assert np.isnan(measure(image, "focus")) == (min(shape) < 8)


def test_a_large_field_is_measured_as_any_part_of_it(rng):
    """Tiles and thinning are a sample: they answer as all pixels of a small field do."""
    large = draw_nuclei(rng, 9999, size=1100, radius=8)
    whole, part = name_measures(large), name_measures(large[:500, :500])
    assert whole["focus"] == pytest.approx(part["focus"], rel=0.1)
    assert whole["foreground"] == pytest.approx(part["foreground"], rel=0.1)
    assert whole["detail"] == pytest.approx(part["detail"], abs=0.03)
