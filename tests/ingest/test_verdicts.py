import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phenopipe.config import QCConfig
from phenopipe.ingest.images import read_image
from phenopipe.ingest.qc import MEASURES, measure_field
from phenopipe.ingest.verdicts import Verdict, judge_fields, judge_plate, judge_wells
from phenopipe.plates import FieldKey, Well
from tests.ingest.test_qc import draw_nuclei

PASS, WARN, FAIL = Verdict("pass", ""), Verdict("warn", "blurred"), Verdict("fail", "empty")


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def draw_plate(rng, n=24, blur=0.7):
    return [np.stack([draw_nuclei(rng, blur=blur) for _ in range(3)]) for _ in range(n)]


def judge(fields, **thresholds):
    measures = np.stack([measure_field(field) for field in fields])
    return judge_fields(measures, QCConfig(**thresholds))


def test_only_the_blurred_saturated_and_empty_fields_fail(rng):
    fields = draw_plate(rng)
    fields[3] = draw_plate(rng, 1, blur=4.0)[0]
    fields[5][1, :40, :40] = 65535
    fields[7] = rng.normal(200, 10, fields[7].shape).astype("uint16")
    found = {n: verdict for n, verdict in enumerate(judge(fields)) if verdict.verdict != "pass"}
    assert found == {3: ("fail", "out_of_focus"), 5: ("fail", "saturated"), 7: ("fail", "empty")}


def test_a_blank_field_fails_as_empty():
    assert judge([np.zeros((2, 64, 64), "uint16")]) == [("fail", "empty")]


def test_blank_images_of_a_real_plate_fail_as_empty(shared):
    folder = shared("plates/cellvoyager/CV8000")
    paths = [path for path in folder.rglob("*.tif") if not path.name.startswith(("DC_", "SC_"))]
    images = [read_image(path) for path in sorted(paths)[:4]]
    assert judge([image[None] for image in images]) == [("fail", "empty")] * 4


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("plates/sbs96", "*.tif"),
        ("plates/harmony/Version1", "*.tiff"),
        ("plates/imagexpress/ImageXpress/Projection-Mix", "*_s[12]_w[123]????????-*.tif"),
    ],
)
def test_images_of_real_plates_are_neither_empty_nor_saturated(shared, folder, names):
    images = [read_image(path) for path in sorted(shared(folder).rglob(names))[:6]]
    assert len(images) == 6
    assert not [v for v in judge([image[None] for image in images]) if v.verdict == "fail"]


def test_one_blurred_channel_of_three_is_a_warning(rng):
    fields = draw_plate(rng)
    fields[3][1] = draw_nuclei(rng, blur=4.0)
    assert judge(fields)[3] == ("warn", "out_of_focus")


def test_too_few_fields_are_judged_by_their_detail_only(rng):
    fields = draw_plate(rng, n=6)
    fields[3] = draw_plate(rng, 1, blur=4.0)[0]
    assert judge(fields, min_fields=7)[3] == ("warn", "blurred")
    assert judge(fields, min_fields=6)[3] == ("fail", "out_of_focus")


def test_a_plate_that_is_blurred_throughout_does_not_pass(rng):
    """All its fields are alike: none is out of focus among them."""
    config = QCConfig()
    assert set(judge(draw_plate(rng))) == {PASS}
    blurred = judge(draw_plate(rng, blur=4.0))
    assert set(blurred) == {WARN}
    assert judge_plate(blurred, [], config) == ("warn", "blurred")


def test_an_empty_field_is_not_told_to_be_blurred(rng):
    noise = rng.normal(200, 10, (3, 112, 112)).astype("uint16")
    assert judge([noise]) == [("fail", "empty")]


@pytest.mark.parametrize(("asked", "verdict"), [(None, "pass"), (12, "pass"), (13, "fail")])
def test_fields_with_few_cells_fail_where_a_number_is_asked_for(rng, asked, verdict):
    assert {v.verdict for v in judge(draw_plate(rng, 3), min_cells=asked)} == {verdict}


def test_verdicts_do_not_depend_on_the_order_of_fields(rng):
    fields = draw_plate(rng, n=20)
    fields[3] = draw_plate(rng, 1, blur=4.0)[0]
    assert judge(fields[::-1]) == judge(fields)[::-1]


@given(st.lists(st.lists(st.floats(0, 1), min_size=16, max_size=16), min_size=1, max_size=20))
def test_stricter_thresholds_fail_no_fewer_fields(rows):
    measures = np.array(rows).reshape(-1, 2, len(MEASURES))
    lax = judge_fields(measures, QCConfig(max_saturated=0.5, min_foreground=0.1))
    strict = judge_fields(measures, QCConfig(max_saturated=0.1, min_foreground=0.5))
    for before, after in zip(lax, strict, strict=True):
        assert after.verdict == "fail" or before.verdict != "fail"


@pytest.mark.parametrize(
    ("fields", "well"),
    [
        ([PASS, PASS], PASS),
        ([PASS, WARN], WARN),
        ([PASS, FAIL], ("warn", "empty")),
        ([FAIL, WARN], ("warn", "empty,blurred")),
        ([FAIL, Verdict("fail", "saturated")], ("fail", "empty,saturated")),
    ],
)
def test_a_well_fails_where_no_field_is_left(fields, well):
    keys = [FieldKey(Well(1, 2), number) for number in range(len(fields))]
    assert judge_wells(dict(zip(keys, fields, strict=True))) == {Well(1, 2): well}


@pytest.mark.parametrize(
    ("failed", "plate"),
    [
        (0, PASS),
        (5, PASS),
        (6, ("warn", "failed_fields,empty")),
        (25, ("warn", "failed_fields,empty")),
        (26, ("fail", "failed_fields,empty")),
        (100, ("fail", "failed_fields,empty")),
    ],
)
def test_a_plate_is_judged_by_the_share_of_fields_that_fail(failed, plate):
    assert judge_plate([FAIL] * failed + [PASS] * (100 - failed), [], QCConfig()) == plate


def test_an_effect_only_warns_and_stands_after_the_commonest_reasons():
    fields = [FAIL, *[Verdict("fail", "saturated,out_of_focus")] * 2, *[PASS] * 17]
    assert judge_plate([PASS], ["edge_effect"], QCConfig()) == ("warn", "edge_effect")
    told = judge_plate(fields, ["row_effect"], QCConfig())
    assert told == ("warn", "failed_fields,saturated,out_of_focus,empty,row_effect")
