from pathlib import Path

import pytest

from phenopipe.errors import InputError
from phenopipe.ingest.index import ImageFile, PlateIndex, sort_images
from phenopipe.ingest.planes import pick_planes
from phenopipe.plates import Well

B03 = Well.parse("B03")


def make_index(*planes, absent=()):
    """Index one field from (path, channel, z, t)."""
    images = [ImageFile(path, B03, 1, c, z=z, t=t) for path, c, z, t in planes]
    lacking = [ImageFile("", B03, 2, c, z=z, t=t) for c, z, t in absent]
    channels = {"1": "DNA", "2": "ER"}
    return PlateIndex(
        Path(),
        "imagexpress",
        "",
        "P1",
        sort_images(images, list(channels)),
        channels,
        (8, 12),
        absent=tuple(lacking),
    )


STACK = [("z0", "1", 0, None), ("z1", "1", 1, None)]
PROJECTED = [("p1", "1", None, None), ("p2", "2", None, None)]


def test_all_planes_are_kept_unless_asked():
    index = make_index(*STACK, *PROJECTED)
    assert pick_planes(index, z="keep", t="keep") == index


def test_one_step_takes_the_place_of_the_vendors_projection():
    index = pick_planes(make_index(*STACK, *PROJECTED), z=1, t="keep")
    assert [(i.path, i.z) for i in index.images] == [("z1", None), ("p2", None)]
    assert index.ignored == (
        ("p1", "the z-stack beside it is used"),
        ("z0", "z-step 1 was picked"),
    )


def test_the_steps_of_a_channel_stay_to_be_projected():
    index = pick_planes(make_index(*STACK, *PROJECTED), z="max", t="keep")
    assert [image.path for image in index.images] == ["p2", "z0", "z1"]


def test_one_time_point_leaves_the_others_out_and_what_they_lack():
    planes = [("t0", "1", None, 0), ("t1", "1", None, 1)]
    absent = [("1", None, 0), ("1", None, 1)]
    index = pick_planes(make_index(*planes, absent=absent), z="keep", t=1)
    assert [(image.path, image.t) for image in index.images] == [("t1", None)]
    assert index.absent == (ImageFile("", B03, 2, "1"),)
    assert index.ignored == (("t0", "time point 1 was picked"),)


def test_a_file_with_several_planes_is_not_ignored_for_one_of_them():
    planes = tuple(ImageFile("a.ome.tif", B03, 1, "1", z=z, page=z) for z in range(3))
    index = PlateIndex(Path(), "ome-tiff", "", "P1", planes, {"1": "DNA"}, (8, 12))
    picked = pick_planes(index, z=2, t="keep")
    assert [(image.page, image.z) for image in picked.images] == [(2, None)]
    assert picked.ignored == ()


@pytest.mark.parametrize(("z", "t"), [(2, "keep"), ("keep", 1)])
def test_a_plane_that_is_not_there_is_refused(z, t):
    with pytest.raises(InputError, match=r"on P1, found [zt] from 0 to"):
        pick_planes(make_index(*STACK), z=z, t=t)
