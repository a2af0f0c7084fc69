import numpy as np
import pytest
from scipy.ndimage import label

from phenopipe.simulate.cells import draw_cells, draw_field
from phenopipe.simulate.design import CHANNELS, ScreenDesign
from phenopipe.simulate.phenotypes import TRAITS, no_traits, with_traits

DESIGN = ScreenDesign(size_px=160)


def _draw(traits, *, seed=0, **options):
    return draw_field(traits, np.random.default_rng(seed), design=DESIGN, **options)


def _mean_over_cells(traits, measure):
    patches = draw_cells(traits, np.full((300, 2), 0.5), np.random.default_rng(0))
    return measure(dict(zip(CHANNELS, patches.swapaxes(0, 1), strict=True)))


def _nucleus_area(light):
    return (light["DNA"] > 0.4).sum((1, 2)).mean()


def _cell_area(light):
    return (light["Cytoplasm"] > 0.2).sum((1, 2)).mean()


def _mito_distance(light):
    y, x = np.mgrid[-20:20, -20:20]
    weights = light["Mito"].mean(0)
    return (np.hypot(y, x) * weights).sum() / weights.sum()


def _roughness(light):
    mito = light["Mito"]
    return (np.diff(mito, axis=2) ** 2).mean() / (mito**2).mean()


@pytest.mark.parametrize(
    ("trait", "measure"),
    [
        ("nucleus_size", _nucleus_area),
        ("cell_size", _cell_area),
        ("mito_spread", _mito_distance),
        ("mito_texture", _roughness),
        ("dna_intensity", lambda light: light["DNA"].mean()),
        ("er_intensity", lambda light: light["ER"].mean()),
        ("rna_intensity", lambda light: light["RNA"].mean()),
        ("actin_intensity", lambda light: light["AGP"].mean()),
        ("golgi_intensity", lambda light: light["AGP"].mean()),
        ("mito_intensity", lambda light: light["Mito"].mean()),
        ("cytoplasm_intensity", lambda light: light["Cytoplasm"].mean()),
        ("nucleolus_size", lambda light: light["RNA"].mean()),
        ("actin_fibres", lambda light: light["AGP"].mean()),
    ],
)
def test_a_trait_moves_what_it_names(trait, measure):
    low, middle, high = (_mean_over_cells(with_traits(**{trait: t}), measure) for t in (-3, 0, 3))
    assert low < middle < high


def test_every_trait_changes_the_picture():
    plain = _draw(no_traits())
    for trait in TRAITS:
        assert not np.array_equal(plain, _draw(with_traits(**{trait: 3.0}))), trait


def test_nuclei_are_as_many_as_cells():
    counts = [label(_draw(no_traits(), seed=seed)[0] > 0.3)[1] for seed in range(8)]
    assert 20 < np.mean(counts) < 45


def test_fewer_cells_grow_where_the_count_is_down():
    few, many = (
        np.mean([_draw(with_traits(cell_count=t), seed=s)[0].mean() for s in range(8)])
        for t in (-5, 5)
    )
    assert many > 1.5 * few


def test_out_of_focus_loses_detail_and_keeps_light():
    sharp, blurred = _draw(no_traits()), _draw(no_traits(), in_focus=False)
    detail = [(np.diff(light, axis=2) ** 2).mean() for light in (sharp, blurred)]
    assert detail[1] < 0.2 * detail[0]
    assert blurred.mean() == pytest.approx(sharp.mean(), rel=0.1)


def test_the_same_generator_draws_the_same_field():
    assert np.array_equal(_draw(no_traits(), seed=3), _draw(no_traits(), seed=3))
    assert not np.array_equal(_draw(no_traits(), seed=3), _draw(no_traits(), seed=4))
