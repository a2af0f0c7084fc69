import json
import shutil
from datetime import UTC, datetime

import numpy as np
import pytest
import zarr
from ome_zarr_models import open_ome_zarr

from phenopipe import compute
from phenopipe.errors import InputError
from phenopipe.ingest import find_plates, ingest_plate, read_layout
from phenopipe.ingest.index import Place
from phenopipe.ingest.layouts import find_layouts
from phenopipe.ingest.layouts.ome_zarr import OmeZarr
from phenopipe.ingest.zarr_image import read_zarr_array
from phenopipe.lake import Lake
from phenopipe.plates import FieldKey, Well

REAL = "plates/ngff/single-plane-hcs.zarr"
UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def read(folder):
    return OmeZarr().read(folder)


def key(well, number):
    return FieldKey(Well.parse(well), number)


def write_group(path, *, version, ome):
    attributes = {"ome": {"version": version, **ome}} if version == "0.5" else ome
    zarr.create_group(path, zarr_format=3 if version == "0.5" else 2, attributes=attributes)


def write_image(
    path, *, version, axes="czyx", shape=(2, 3, 6, 8), labels=("DAPI", "GFP"), at=None, seed=0
):
    """Write an image of two levels: 0.5 um pixels, z-steps of 2 um, a time point each 30 s."""
    side = {"t": 30.0, "c": 1.0, "z": 2.0, "y": 0.5, "x": 0.5}
    place = [{"type": "translation", "translation": at}] if at else []
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {
                    "type": "scale",
                    "scale": [side[a] * (2**level if a in "yx" else 1) for a in axes],
                },
                *place,
            ],
        }
        for level in (0, 1)
    ]
    named = [
        {"name": a, "type": TYPES[a]} | ({"unit": UNITS[a]} if a in UNITS else {}) for a in axes
    ]
    ome = {"multiscales": [{"version": version, "axes": named, "datasets": datasets}]}
    if labels:
        window = {"min": 0, "max": 65535, "start": 0, "end": 1000}
        ome["omero"] = {
            "channels": [{"label": label, "color": "00FF00", "window": window} for label in labels]
        }
    write_group(path, version=version, ome=ome)
    pixels = np.random.default_rng(seed).integers(1, 60_000, shape).astype("uint16")
    for level, image in enumerate((pixels, pixels[..., ::2, ::2])):
        written_as = (
            {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}}
            if version == "0.4"
            else {"zarr_format": 3, "dimension_names": tuple(axes)}
        )
        array = zarr.create_array(
            path / str(level), shape=image.shape, dtype=image.dtype, **written_as
        )
        array[:] = image
    return pixels


def write_plate(
    folder, *, version="0.5", wells=("A/1", "B/3"), images=None, acquisitions=(), name="plate"
):
    """Write a plate whose wells have the images, by their path; gives pixels by path."""
    images = {"0": {}, "1": {}} if images is None else images
    plate = {
        "version": version,
        "name": name,
        "rows": [{"name": r} for r in "AB"],
        "columns": [{"name": c} for c in "123"],
        "wells": [
            {"path": w, "rowIndex": "AB".index(w[0]), "columnIndex": int(w[2:]) - 1} for w in wells
        ],
    }
    if acquisitions:
        plate["acquisitions"] = list(acquisitions)
    write_group(folder, version=version, ome={"plate": plate})
    written = {}
    for well in wells:
        listed = [
            {"path": path} | ({"acquisition": o["acquisition"]} if "acquisition" in o else {})
            for path, o in images.items()
        ]
        write_group(
            folder / well, version=version, ome={"well": {"version": version, "images": listed}}
        )
        for path, options in images.items():
            own = {k: v for k, v in options.items() if k != "acquisition"}
            inner = f"{well}/{path}"
            written[inner] = write_image(folder / inner, version=version, seed=len(written), **own)
    for row in {w[0] for w in wells}:
        write_group(folder / row, version=version, ome={})
    return written


def plane_of(index, image):
    """Read the plane that an image of the index stands for."""
    array = read_zarr_array(index.folder / image.path)
    return array if image.page is None else array.reshape(-1, *array.shape[-2:])[image.page]


# --- real plates ---------------------------------------------------------------------------------


def test_a_real_plate_of_single_planes(shared):
    index = read_layout(shared(REAL))
    assert (index.layout, index.plate, index.shape) == ("ome-zarr", "single-plane-hcs", (16, 24))
    assert index.fields == [key("E07", 0), key("E08", 0)]
    labels = json.loads((index.folder / "E/07/0/.zattrs").read_text())["omero"]["channels"]
    assert [label.rpartition("_c")[0] or label for label in index.channels.values()] == [
        channel["label"] for channel in labels
    ]
    assert len(set(index.channels.values())) == 3
    assert index.pixel_size_um == 2.7336
    assert index.expected == len(index.images) == 6
    assert (index.missing, index.absent) == ((), ())
    for image in index.images:
        own = zarr.open_array(index.folder / image.path, mode="r")[int(image.channel)]
        np.testing.assert_array_equal(plane_of(index, image), own)


def test_a_real_plate_that_lists_only_the_rows_and_columns_in_use(shared):
    index = read_layout(shared("plates/ngff/ome-zarr-models/examples/v04/hcs_example.ome.zarr"))
    assert (index.plate, index.shape, index.pixel_size_um) == ("hcs_example", (8, 12), 0.1625)
    assert [(str(i.well), i.z, i.page) for i in index.images] == [("B03", 0, 0), ("B03", 1, 1)]
    # Its chunks were left out of the repository.
    assert index.missing == ("pixels of B/03/0/0: it has no chunk, so it reads as blank",)


def test_no_other_layout_takes_the_real_plate(shared):
    fitting = [name for name, layout in find_layouts().items() if layout.recognise(shared(REAL))]
    assert fitting == ["ome-zarr"]


# --- plates of both versions ---------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_every_plane_is_indexed(tmp_path, version):
    folder = tmp_path / "P7.ome.zarr"
    written = write_plate(folder, version=version)
    assert open_ome_zarr(zarr.open_group(folder, mode="r")) is not None
    index = read(folder)
    assert (index.plate, index.shape) == ("P7", (2, 3))
    assert index.fields == [key(w, n) for w in ("A01", "B03") for n in (0, 1)]
    assert index.channels == {"0": "DAPI", "1": "GFP"}
    assert (index.pixel_size_um, index.z_step_um, index.time_step_s) == (0.5, 2.0, None)
    assert len(index.images) == index.expected == 4 * 2 * 3
    for image in index.images:
        pixels = written[image.path.rpartition("/")[0]]
        np.testing.assert_array_equal(
            plane_of(index, image), pixels[int(image.channel), image.z], strict=True
        )


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_every_file_and_folder_has_its_place(tmp_path, version):
    folder = tmp_path / "P7.zarr"
    write_plate(folder, version=version, wells=("A/1",), images={"0": {}})
    (folder / "A/1/0/labels/nuclei").mkdir(parents=True)
    (folder / "A/1/0/tables").mkdir()
    (folder / "A/2/0").mkdir(parents=True)
    (folder / "A/readme.txt").touch()
    index = read(folder)
    node = {"0.4": [".zattrs", ".zgroup"], "0.5": ["zarr.json"]}[version]
    inner = ["", "A/", "A/1/", "A/1/0/"]
    assert sorted(index.metadata_files) == sorted(
        i + n for i in inner for n in node if (folder / i / n).exists()
    )
    assert dict(index.ignored) == {
        "A/1/0/1": "a smaller copy of the image",
        "A/1/0/labels": "labels, not images",
        "A/1/0/tables": "tables, not images",
        "A/2": "not named in the plate's metadata",
        "A/readme.txt": "not a file of OME-Zarr",
    }


def test_time_points_and_pages_follow_the_arrays_axes(tmp_path):
    folder = tmp_path / "P7.zarr"
    film = {"axes": "tcyx", "shape": (3, 2, 6, 8)}
    written = write_plate(folder, wells=("A/1",), images={"1": film})
    index = read(folder)
    assert {(i.t, i.channel, i.z): i.page for i in index.images} == {
        (t, str(c), None): 2 * t + c for t in range(3) for c in range(2)
    }
    assert index.time_step_s == 30
    for image in index.images:
        own = written["A/1/1"][image.t, int(image.channel)]
        np.testing.assert_array_equal(plane_of(index, image), own)


def test_a_plane_alone_has_no_page(tmp_path):
    folder = tmp_path / "P7.zarr"
    plane = {"axes": "yx", "shape": (6, 8), "labels": ()}
    written = write_plate(folder, wells=("A/1",), images={"1": plane})
    (image,) = read(folder).images
    assert (image.page, image.z, image.t) == (None, None, None)
    assert read(folder).channels == {"0": "c0"}
    np.testing.assert_array_equal(plane_of(read(folder), image), written["A/1/1"])


def test_channels_without_names_are_numbered(tmp_path):
    write_plate(tmp_path / "P7.zarr", images={"0": {"labels": ()}})
    assert read(tmp_path / "P7.zarr").channels == {"0": "c0", "1": "c1"}


def test_places_and_times(tmp_path):
    folder = tmp_path / "P7.zarr"
    images = {"0": {"acquisition": 4, "at": [0, 1.0, 20.0, 30.0]}, "1": {"at": [0, 0, 0, 0]}}
    acquisition = {"id": 4, "starttime": 1_700_000_000}
    write_plate(folder, wells=("A/1",), images=images, acquisitions=[acquisition])
    start = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert read(folder).places == {
        key("A01", 0): Place(30.0, 20.0, 1.0, start),
        key("A01", 1): Place(0.0, 0.0, 0.0),
    }


def test_the_plate_is_named_by_its_metadata_where_a_folder_bears_that_name(tmp_path):
    for folder in ("BR001/images.zarr", "BR002/images.zarr", "BR003.zarr"):
        write_plate(tmp_path / folder, wells=("A/1",), images={"0": {}}, name="BR001")
    assert read(tmp_path / "BR001/images.zarr").plate == "BR001"
    assert read(tmp_path / "BR002/images.zarr").plate == "images"
    assert read(tmp_path / "BR003.zarr").plate == "BR003"


def test_plates_are_found_below_a_folder_each_once(tmp_path):
    for name in ("P2.zarr", "run/P1.zarr"):
        write_plate(tmp_path / name, wells=("A/1",), images={"0": {}})
    write_image(tmp_path / "lone.zarr", version="0.5")
    (tmp_path / "tables").mkdir()
    assert find_plates(tmp_path) == [tmp_path / "P2.zarr", tmp_path / "run/P1.zarr"]


# --- field numbers and channels where the format leaves them open --------------------------------

STACK = {"shape": (2, 3, 6, 8)}
PROJECTION = {"shape": (2, 1, 6, 8)}


def test_a_projection_beside_its_stack_is_the_same_field(tmp_path):
    folder = tmp_path / "P7.zarr"
    write_plate(folder, wells=("A/1",), images={"0": STACK, "0_mip": PROJECTION})
    index = read(folder)
    assert index.fields == [key("A01", 0)]
    assert {(i.path, i.z) for i in index.images} == {
        ("A/1/0_mip/0", None),
        *(("A/1/0/0", z) for z in range(3)),
    }


def test_images_of_two_acquisitions_are_further_fields(tmp_path):
    folder = tmp_path / "P7.zarr"
    images = {str(n): {"acquisition": n // 2} for n in range(4)}
    acquisitions = [{"id": 0}, {"id": 1}]
    write_plate(folder, wells=("A/1",), images=images, acquisitions=acquisitions)
    assert read(folder).fields == [key("A01", n) for n in range(4)]


def test_acquisitions_of_other_channels_are_refused(tmp_path):
    folder = tmp_path / "P7.zarr"
    images = {"0": {"acquisition": 0}, "1": {"acquisition": 1, "labels": ("DAPI", "Cy5")}}
    write_plate(folder, wells=("A/1",), images=images, acquisitions=[{"id": 0}, {"id": 1}])
    with pytest.raises(InputError, match=r"0: DAPI, GFP; 1: Cy5, DAPI: make each acquisition"):
        read(folder)


@pytest.mark.parametrize("names", [("left", "right"), ("0a", "0b"), ("7", "07")])
def test_images_without_numbers_of_their_own_count_from_one(tmp_path, names):
    folder = tmp_path / "P7.zarr"
    write_plate(folder, images=dict.fromkeys(names, STACK))
    index = read(folder)
    assert index.fields == [key(w, n) for w in ("A01", "B03") for n in (1, 2)]
    assert {(i.path, i.field) for i in index.images if i.well == Well(0, 0)} == {
        (f"A/1/{name}/0", n) for n, name in enumerate(names, 1)
    }


def test_channels_in_another_order_are_told_by_name(tmp_path):
    folder = tmp_path / "P7.zarr"
    images = {"0": {}, "1": {"labels": ("GFP", "DAPI")}}
    written = write_plate(folder, wells=("A/1",), images=images)
    index = read(folder)
    assert index.channels == {"DAPI": "DAPI", "GFP": "GFP"}
    for image in index.images:
        name = image.path.split("/")[2]
        order = images[name].get("labels", ("DAPI", "GFP"))
        own = written[f"A/1/{name}"][order.index(image.channel), image.z]
        np.testing.assert_array_equal(plane_of(index, image), own)


def test_channels_that_cannot_be_told_apart_are_refused(tmp_path):
    images = {"0": {}, "1": {"labels": ("GFP", "GFP")}}
    write_plate(tmp_path / "P7.zarr", images=images)
    with pytest.raises(InputError, match=r"found \['GFP', 'GFP'\] in A/1/1: name its channels"):
        read(tmp_path / "P7.zarr")


@pytest.mark.parametrize("name", ["Projection-Mix", "1well-3C-2S-Zmix-T"])
def test_a_plate_that_phenopipe_wrote_is_read_as_it_was(shared, tmp_path, name):
    source = read_layout(shared(f"plates/imagexpress/ImageXpress/{name}"))
    lake = Lake(tmp_path / "lake")
    with compute.client("threads", workers=1) as client:
        ref = ingest_plate(source.folder, lake, client=client, experiment="real")
    folder = tmp_path / "elsewhere.zarr"
    shutil.copytree(tmp_path / "lake" / ref.thing, folder)
    attributes = json.loads((folder / "zarr.json").read_text())
    del attributes["attributes"]["phenopipe"]
    (folder / "zarr.json").write_text(json.dumps(attributes))
    index = read(folder)
    assert index.shape == source.shape
    assert index.pixel_size_um == source.pixel_size_um
    planes = {(i.field_key, index.channels[i.channel], i.z, i.t) for i in index.images}
    assert planes >= {(i.field_key, source.channels[i.channel], i.z, i.t) for i in source.images}


# --- damage --------------------------------------------------------------------------------------


def test_a_well_and_an_image_that_cannot_be_read_are_absent(tmp_path):
    folder = tmp_path / "P7.zarr"
    write_plate(folder, wells=("A/1", "A/2", "B/3"))
    (folder / "A/1/zarr.json").write_text("{")
    (folder / "A/2/1/zarr.json").unlink()
    shutil.rmtree(folder / "B/3/0/0")
    index = read(folder)
    assert index.fields == [key("A02", 0), key("B03", 1)]
    lost = [key("A01", 0), key("A01", 1), key("A02", 1), key("B03", 0)]
    assert sorted({image.field_key for image in index.absent}) == lost
    assert index.expected == 6 * 2 * 3
    for start in ("well A01: expected JSON", "image A/2/1: expected", "image B/3/0: expected"):
        assert any(line.startswith(start) for line in index.missing)
    ignored = dict(index.ignored)
    assert {ignored[path] for path in ("A/1", "A/2/1", "B/3/0")} == {"its metadata cannot be read"}


def edit(file, change):
    content = json.loads(file.read_text())
    change(content["attributes"]["ome"])
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda ome: ome.update(version="0.6"),
            "expected OME-Zarr 0.4 or 0.5 .* found version '0.6'",
        ),
        (lambda ome: ome["plate"].update(wells=[]), "plate/wells"),
        (lambda ome: ome["plate"]["wells"][0].update(path="../../etc"), "a path within the folder"),
        (lambda ome: ome["plate"]["wells"][0].update(path="1/A"), "such as B/03 .*found '1/A'"),
    ],
)
def test_a_plate_that_cannot_be_is_refused(tmp_path, change, told):
    folder = tmp_path / "P7.zarr"
    write_plate(folder)
    edit(folder / "zarr.json", change)
    with pytest.raises(InputError, match=told):
        read_layout(folder)


@pytest.mark.parametrize("axes", ["xy", "yxc", "ccyx", "ztyx?"])
def test_axes_that_cannot_be_are_told(tmp_path, axes):
    folder = tmp_path / "P7.zarr"
    write_plate(folder, wells=("A/1",))
    kinds = TYPES | {"?": None}
    named = [{"name": a, "type": kinds[a]} for a in axes]
    edit(folder / "A/1/0/zarr.json", lambda ome: ome["multiscales"][0].update(axes=named))
    index = read(folder)
    assert index.fields == [key("A01", 1)]
    assert any("expected axes t, c, z, y and x" in line for line in index.missing)


def test_a_folder_that_is_no_plate_is_not_recognised(tmp_path):
    (tmp_path / "zarr.json").write_text('{"attributes": {"plate": "P1"}}')
    assert OmeZarr().recognise(tmp_path) is None
    (tmp_path / "zarr.json").write_text('{"attributes": {"ome": {"plate": ')
    assert OmeZarr().recognise(tmp_path) == "zarr.json says that it is an OME-Zarr plate"
    with pytest.raises(InputError, match="expected JSON"):
        read_layout(tmp_path)
