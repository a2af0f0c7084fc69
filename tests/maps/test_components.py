import logging

import numpy as np
import pytest
from screens import draw_screen

from phenopipe.errors import InputError
from phenopipe.maps import TVN, PCACenterScale, Sphering
from phenopipe.maps.components import supported_components

each_kind = pytest.mark.parametrize("kind", [PCACenterScale, TVN, Sphering])


def draw_uneven():
    """40 features; one batch of 10 controls and one of 150."""
    x = np.random.default_rng(0).normal(size=(320, 40))
    batch = np.where(np.arange(320) < 20, "small", "large")
    return x, batch, np.arange(320) % 2 == 0


@each_kind
def test_auto_keeps_what_the_smallest_batch_supports_and_says_so(kind, caplog):
    x, batch, control = draw_uneven()
    with caplog.at_level(logging.WARNING):
        fitted = kind("auto").fit(x, batch=batch, control=control)
    assert fitted.n_components_ == 5
    assert [record.getMessage() for record in caplog.records] == [fitted.cap]
    assert fitted.cap.startswith("5 of 40 components kept: the rank of all 160 controls is 40")
    assert fitted.cap.endswith("the batch with the fewest controls has 10")


@each_kind
def test_auto_keeps_what_all_controls_support_in_one_batch_too(kind):
    x, _, _ = draw_uneven()
    assert kind("auto").fit(x, control=np.arange(320) < 100).n_components_ == 100 // 4


@pytest.mark.parametrize(
    ("counts", "supported"),
    [([64] * 4, 32), ([256], 64), ([64] * 60, 32), ([10, 150], 5), ([2], 1)],
)
def test_few_controls_support_few_components(counts, supported):
    assert supported_components(counts) == supported


@pytest.mark.parametrize("kind", [PCACenterScale, TVN])
def test_a_number_is_capped_at_half_of_all_controls(kind, caplog):
    x, _, _ = draw_uneven()
    with caplog.at_level(logging.WARNING):
        fitted = kind(30).fit(x, control=np.arange(320) < 40)
    assert fitted.n_components_ == 20
    assert fitted.cap.startswith("20 of 30 components kept: the rank of all 40 controls is 39")
    assert "40 controls for 20 components" in caplog.text
    assert '"auto" keeps 10' in caplog.text


def test_all_components_on_few_controls_are_given_with_a_warning(caplog):
    x, _, _ = draw_uneven()
    with caplog.at_level(logging.WARNING):
        fitted = TVN(None).fit(x, control=np.arange(320) < 50)
    assert (fitted.n_components_, fitted.cap) == (40, "")
    assert "50 controls for 40 components: the least of these are noise" in caplog.text


def test_all_components_are_those_in_which_controls_vary():
    x, batch, control = draw_screen()
    twin_and_constant = np.column_stack([x, x[:, 0], np.full(len(x), 0.1)])
    fitted = TVN().fit(twin_and_constant, batch=batch, control=control)
    assert fitted.n_components_ == 6
    assert np.isfinite(fitted.transform(twin_and_constant, batch=batch)).all()


@each_kind
@pytest.mark.parametrize("wrong", [0, -3, 2.5, "all"])
def test_a_number_that_is_none_is_named(kind, wrong):
    with pytest.raises(InputError, match="a number from 1"):
        kind(wrong)
