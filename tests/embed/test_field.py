from dataclasses import replace

import numpy as np
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phenopipe.embed import CropPlan, crop_field, crop_origins, embed_field
from phenopipe.embed.rescale import Scale, rescale_planes
from phenopipe.errors import InputError
from phenopipe.models import build_classical, open_session

PLAN = CropPlan(channels=(0, 1, 2), names=("DNA", "ER", "AGP"), crop=32, stride=32)
edges = st.sampled_from(["centre", "shift", "pad"])


def draw_field(shape=(3, 80, 100), dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


@pytest.fixture(scope="module")
def classical():
    return open_session(build_classical().SerializeToString())


@pytest.fixture(scope="module")
def mirror():
    """A model that gives back the crop's own pixels: what it saw is plain to check."""
    header = '<ir_version: 9, opset_import: ["": 18]>'
    body = "counts = Cast<to = 1>(crops) embedding = Flatten(counts)"
    text = f"{header} mirror (uint16[n,c,y,x] crops) => (float[n,d] embedding) {{ {body} }}"
    return open_session(onnx.parser.parse_model(text).SerializeToString())


def see(pixels, session, **changes):
    """Give what a session that mirrors its crops saw, as crops (k, c, y, x)."""
    plan = replace(PLAN, **changes)
    origins, vectors = embed_field(pixels, session, plan, where="P A01 field 1")
    assert (origins.dtype, vectors.dtype, len(origins)) == (np.int32, np.float32, len(vectors))
    return origins, vectors.reshape(len(vectors), -1, plan.crop, plan.crop)


@pytest.mark.parametrize("stride", [32, 5])
@pytest.mark.parametrize("edge", ["centre", "shift", "pad"])
def test_a_fields_vectors_are_those_of_its_crops_in_one_call(classical, stride, edge):
    field = draw_field()
    plan = replace(PLAN, stride=stride, edge=edge)
    origins, vectors = embed_field(field, classical, plan, where="P")
    expected = crop_origins(80, 100, crop=32, stride=stride, edge=edge)
    np.testing.assert_array_equal(origins, expected)
    np.testing.assert_array_equal(vectors, classical.embed(crop_field(field, expected, crop=32)))


def test_the_model_sees_its_channels_in_its_order_and_zeros_for_none(mirror):
    field = draw_field()
    _, seen = see(field, mirror, channels=(2, None, 0), names=("AGP", "Mito", "DNA"))
    np.testing.assert_array_equal(seen[0][[0, 2]], field[[2, 0], 8:40, 2:34])
    assert (seen[:, 1] == 0).all()


def test_bytes_widen_but_never_narrow(mirror):
    field = draw_field(dtype="uint8")
    _, seen = see(field, mirror)
    np.testing.assert_array_equal(seen[0], field[:, 8:40, 2:34])
    with pytest.raises(InputError, match=r"pixels of uint16 in P A01 field 1, found uint32"):
        see(field.astype("uint32"), mirror)


def test_a_time_series_is_refused(mirror):
    with pytest.raises(InputError, match=r"found \(2, 3, 80, 100\): time series are not embedded"):
        see(draw_field((2, 3, 80, 100)), mirror)


@given(seed=st.integers(0, 99), edge=edges, turns=st.sampled_from([1, 4]))
@settings(deadline=None, max_examples=20)
def test_a_fields_vector_is_the_mean_of_its_crops(classical, seed, edge, turns):
    field = draw_field(seed=seed)
    plan = replace(PLAN, edge=edge, turns=turns)
    _, crops = embed_field(field, classical, plan, where="P")
    origins, whole = embed_field(field, classical, replace(plan, per="field"), where="P")
    assert origins.tolist() == [[0, 0]]
    assert (whole.shape, whole.dtype) == ((1, crops.shape[1]), np.float32)
    expected = [np.float32(np.mean([float(v) for v in column])) for column in crops.T]
    np.testing.assert_allclose(whole[0], expected, rtol=1e-6, atol=1e-7)


def test_four_turns_are_the_mean_over_the_quarter_turns(mirror):
    _, plain = see(draw_field(), mirror)
    _, turned = see(draw_field(), mirror, turns=4)
    quarters = [plain, plain.swapaxes(2, 3)[:, :, ::-1], plain[:, :, ::-1, ::-1]]
    quarters.append(plain.swapaxes(2, 3)[:, :, :, ::-1])
    np.testing.assert_allclose(turned, np.mean(quarters, axis=0), rtol=1e-6)


@given(seed=st.integers(0, 99), quarter=st.integers(1, 3))
@settings(deadline=None, max_examples=20)
def test_with_four_turns_a_turned_crop_has_the_same_vector(mirror, seed, quarter):
    field = draw_field((3, 32, 32), seed=seed)
    turned = np.rot90(field, quarter, axes=(1, 2))
    (_, once), (_, again) = see(field, mirror, turns=4), see(turned, mirror, turns=4)
    np.testing.assert_array_equal(once, again)
    assert (see(field, mirror)[1] != see(turned, mirror)[1]).any()


@given(order=st.permutations(range(4)))
@settings(deadline=None, max_examples=10)
def test_the_order_of_fields_does_not_matter(classical, order):
    fields = [draw_field(seed=seed) for seed in range(4)]
    alone = [embed_field(field, classical, PLAN, where="P")[1] for field in fields]
    for place in order:
        again = embed_field(fields[place], classical, PLAN, where="P")[1]
        np.testing.assert_array_equal(again, alone[place])


@pytest.mark.parametrize(
    ("scale", "origins"),
    [
        (Scale(), [[8, 2], [8, 34], [8, 66], [40, 2], [40, 34], [40, 66]]),
        (Scale(level=1), [[16, 4], [16, 68], [16, 132], [80, 4], [80, 68], [80, 132]]),
        (Scale(zoom=0.8), [[0, 10], [0, 50], [40, 10], [40, 50]]),
    ],
)
def test_crops_lie_in_pixels_of_level_0(mirror, scale, origins):
    assert see(draw_field(), mirror, scale=scale)[0].tolist() == origins


def test_the_model_sees_rescaled_pixels(mirror):
    field, scale = draw_field(), Scale(halvings=1, zoom=0.9)
    _, seen = see(field, mirror, channels=(1, 0), names=("ER", "DNA"), scale=scale, edge="shift")
    np.testing.assert_array_equal(seen[0], rescale_planes(field[[1, 0]], scale)[:, :32, :32])


def test_a_field_too_small_for_a_crop_once_rescaled_is_refused(mirror):
    with pytest.raises(InputError, match=r"at least 32 x 32 pixels, found 20 x 25"):
        see(draw_field(), mirror, scale=Scale(zoom=0.25))


def test_crops_that_would_share_a_place_are_refused(mirror):
    with pytest.raises(InputError, match=r"one pixel of the plate apart.*0\.5 of its pixels"):
        see(draw_field((3, 20, 20)), mirror, scale=Scale(zoom=2.0), stride=1)
