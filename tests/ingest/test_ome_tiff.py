from datetime import UTC, datetime
from itertools import product

import numpy as np
import pytest
import tifffile

from phenopipe.errors import InputError
from phenopipe.ingest import find_plates, read_layout
from phenopipe.ingest.images import decode_image, read_image_bytes
from phenopipe.ingest.index import Place
from phenopipe.ingest.layouts import find_layouts
from phenopipe.ingest.layouts.ome_tiff import OmeTiff
from phenopipe.ingest.layouts.ome_xml import parse_ome_xml
from phenopipe.plates import FieldKey, Well

XMLNS = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def read(folder):
    return OmeTiff().read(folder)


def key(well, number):
    return FieldKey(Well.parse(well), number)


# --- OME-XML as Bio-Formats writes it ------------------------------------------------------------


def ome(*parts, uuid="urn:uuid:0"):
    return f'<?xml version="1.0"?><OME xmlns="{XMLNS}" UUID="{uuid}">{"".join(parts)}</OME>'


def plate_xml(wells, name="P1", attributes='Rows="2" Columns="3"'):
    """Write the plate of samples ``(index, image)``, by ``(row, column)`` of the well."""
    told = "".join(
        f'<Well ID="Well:{r}:{c}" Row="{r}" Column="{c}">'
        + "".join(
            f'<WellSample ID="WellSample:{r}:{c}:{i}" Index="{i}"><ImageRef ID="Image:{image}"/>'
            "</WellSample>"
            for i, image in samples
        )
        + "</Well>"
        for (r, c), samples in wells.items()
    )
    return f'<Plate ID="Plate:0" Name="{name}" {attributes}>{told}</Plate>'


def image_xml(
    number, blocks, *, c=2, z=1, t=1, order="XYZCT", names=("DAPI", "GFP"), pixels="", inner=""
):
    channels = "".join(
        f'<Channel ID="Channel:{number}:{n}"' + (f' Name="{name}"/>' if name else "/>")
        for n, name in enumerate(names)
    )
    return (
        f'<Image ID="Image:{number}">{inner}<Pixels ID="Pixels:{number}" Type="uint16" SizeX="8" '
        f'SizeY="6" SizeC="{c}" SizeZ="{z}" SizeT="{t}" DimensionOrder="{order}" {pixels}>'
        f"{channels}{blocks}</Pixels></Image>"
    )


def block(ifd=None, count=None, file=None, uuid="urn:uuid:1", **first):
    attributes = {"IFD": ifd, "PlaneCount": count, **first}
    told = " ".join(f'{k}="{v}"' for k, v in attributes.items() if v is not None)
    inner = "" if file is None else f'<UUID FileName="{file}">{uuid}</UUID>'
    return f"<TiffData {told}>{inner}</TiffData>"


def write_tiff(path, xml, *, planes, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(1, 60_000, (planes, 6, 8)).astype("uint16")
    with tifffile.TiffWriter(path) as tiff:
        for number, plane in enumerate(pixels):
            text = xml.encode() if number == 0 and xml else None
            tiff.write(plane, description=text, metadata=None, contiguous=False)
    return pixels


def pixels_of(index, image):
    path = index.folder / image.path
    return decode_image(read_image_bytes(path), path, pages=[image.page])[0]


FOUR_WELLS = {
    (r, c): [(0, 2 * n), (1, 2 * n + 1)] for n, (r, c) in enumerate(product((0, 1), (0, 2)))
}


def write_single_file(folder, *, order="XYZCT", sizes=(2, 3, 2)):
    """Write a plate of 4 wells x 2 fields in one file."""
    c, z, t = sizes
    blocks = [block(ifd=n * c * z * t, count=c * z * t) for n in range(8)]
    images = [image_xml(n, b, c=c, z=z, t=t, order=order) for n, b in enumerate(blocks)]
    xml = ome(plate_xml(FOUR_WELLS), *images)
    return write_tiff(folder / "P1.ome.tif", xml, planes=8 * c * z * t)


# --- where planes lie, against tifffile's own reading --------------------------------------------


@pytest.mark.parametrize("order", ["XYZCT", "XYCZT", "XYTCZ", "XYZTC", "XYCTZ", "XYTZC"])
def test_one_file_of_all_images_in_any_order(tmp_path, order):
    write_single_file(tmp_path / "P1", order=order)
    index = read_layout(tmp_path / "P1")
    assert (index.layout, index.plate, index.shape) == ("ome-tiff", "P1", (2, 3))
    assert index.fields == [key(w, n) for w in ("A01", "A03", "B01", "B03") for n in (0, 1)]
    assert index.channels == {"0": "DAPI", "1": "GFP"}
    assert index.expected == len(index.images) == 8 * 2 * 3 * 2
    assert (index.missing, index.absent, index.ignored) == ((), (), ())
    with tifffile.TiffFile(tmp_path / "P1/P1.ome.tif") as tiff:
        series = {f: (s.axes, s.asarray()) for f, s in zip(index.fields, tiff.series, strict=True)}
    for image in index.images:
        axes, array = series[image.field_key]
        at = {"C": int(image.channel), "Z": image.z, "T": image.t}
        own = array[tuple(at[axis] for axis in axes[:-2])]
        np.testing.assert_array_equal(pixels_of(index, image), own, strict=True)


def write_file_set(folder, *, companion=False):
    """Write 2 wells x 1 field x 2 channels, each plane in a file of its own."""
    named = {(n, c): f"w{n}_c{c}.ome.tif" for n in (0, 1) for c in (0, 1)}
    uuids = {name: f"urn:uuid:{n + 5}" for n, name in enumerate(named.values())}
    images = [
        image_xml(
            n,
            "".join(
                block(ifd=0, count=1, file=named[n, c], uuid=uuids[named[n, c]], FirstC=c)
                for c in (0, 1)
            ),
        )
        for n in (0, 1)
    ]
    parts = [plate_xml({(0, 0): [(0, 0)], (1, 1): [(1, 1)]}), *images]
    only = '<BinaryOnly MetadataFile="P1.companion.ome" UUID="urn:uuid:0"/>'
    written = {}
    for seed, (name, uuid) in enumerate(uuids.items()):
        xml = ome(only, uuid=uuid) if companion else ome(*parts, uuid=uuid)
        written[name] = write_tiff(folder / name, xml, planes=1, seed=seed)[0]
    if companion:
        (folder / "P1.companion.ome").write_text(ome(*parts))
    return written


@pytest.mark.parametrize("companion", [False, True])
def test_a_set_of_files(tmp_path, companion):
    folder = tmp_path / "P1"
    written = write_file_set(folder, companion=companion)
    index = read_layout(folder)
    assert [(i.path, str(i.well), i.field, i.channel) for i in index.images] == [
        ("w0_c0.ome.tif", "A01", 0, "0"),
        ("w0_c1.ome.tif", "A01", 0, "1"),
        ("w1_c0.ome.tif", "B02", 0, "0"),
        ("w1_c1.ome.tif", "B02", 0, "1"),
    ]
    assert index.metadata_files == (("P1.companion.ome",) if companion else ())
    assert (index.missing, index.ignored) == ((), ())
    for image in index.images:
        np.testing.assert_array_equal(pixels_of(index, image), written[image.path], strict=True)


def test_a_set_that_was_renamed_is_still_read(tmp_path):
    folder = tmp_path / "P1"
    write_file_set(folder)
    for path in sorted(folder.iterdir()):
        path.rename(folder / f"copy_of_{path.name}")
    index = read(folder)
    assert [(i.path, str(i.well), i.channel) for i in index.images] == [
        (f"copy_of_w{n}_c{c}.ome.tif", well, str(c))
        for n, well in enumerate(("A01", "B02"))
        for c in (0, 1)
    ]
    assert (index.expected, index.absent) == (4, ())


def test_files_of_a_set_that_are_not_there_are_absent(tmp_path):
    folder = tmp_path / "P1"
    write_file_set(folder, companion=True)
    (folder / "w1_c1.ome.tif").unlink()
    (folder / "w0_c0.ome.tif").rename(folder / "note.txt")
    index = read(folder)
    assert index.expected == 4
    assert {(str(i.well), i.channel) for i in index.absent} == {("A01", "0"), ("B02", "1")}
    assert index.missing == ("A01 field 0: no image of c0", "B02 field 0: no image of c1")
    assert index.ignored == (("note.txt", "not named in the OME-XML of the plate"),)


def test_a_file_for_each_well_with_a_plate_of_its_own(tmp_path):
    for n, (row, column) in enumerate(((0, 0), (1, 2))):
        xml = ome(plate_xml({(row, column): [(0, 0)]}), image_xml(0, block()), uuid=f"urn:uuid:{n}")
        write_tiff(tmp_path / f"P1/well{n}.ome.tiff", xml, planes=2)
    index = read(tmp_path / "P1")
    assert [(i.path, str(i.well), i.channel, i.page) for i in index.images] == [
        (f"well{n}.ome.tiff", well, str(page), page)
        for n, well in enumerate(("A01", "B03"))
        for page in (0, 1)
    ]


# The published example of a sparse plate (gist sbesson/81814ab64e3f620b95fe941130dd3ebc): 2 x 2
# wells of 2 fields, whose indices run on; one field of the second well was not taken.
SPARSE = {(0, 0): [(0, 0), (1, 1)], (0, 1): [(3, 3)], (1, 0): [(4, 4), (5, 5)], (1, 1): [(6, 6)]}


@pytest.mark.parametrize(
    ("wells", "fields"),
    [
        (SPARSE, [("A01", 0), ("A01", 1), ("A02", 1), ("B01", 0), ("B01", 1), ("B02", 0)]),
        ({(0, 0): [(4, 0), (7, 1)]}, [("A01", 4), ("A01", 7)]),
        ({(0, 0): [(0, 0), (2, 1)], (1, 0): [(0, 2)]}, [("A01", 0), ("A01", 2), ("B01", 0)]),
        ({(0, 0): [(0, 0)], (1, 0): [(1, 1), (2, 2)]}, [("A01", 0), ("B01", 0), ("B01", 1)]),
        ({(0, 0): [(9, 0), (9, 1)]}, [("A01", 0), ("A01", 1)]),
    ],
)
def test_fields_are_numbered_by_their_indices(tmp_path, wells, fields):
    numbers = [n for samples in wells.values() for _, n in samples]
    images = [image_xml(n, block(ifd=at), c=1, names=["DAPI"]) for at, n in enumerate(numbers)]
    write_tiff(tmp_path / "a.ome.tif", ome(plate_xml(wells), *images), planes=len(numbers))
    index = read(tmp_path)
    assert index.fields == [key(*field) for field in fields]
    assert [image.page for image in index.images] == list(range(len(numbers)))


# --- what else the OME-XML tells -----------------------------------------------------------------


def write_one_image(folder, *, plate=None, **options):
    plate = plate or plate_xml({(0, 0): [(0, 0)]})
    xml = ome(plate, image_xml(0, options.pop("blocks", block()), **options))
    count = options.get("c", 2) * options.get("z", 1) * options.get("t", 1)
    write_tiff(folder / "a.ome.tif", xml, planes=count)
    return read(folder)


def test_lengths_and_times_in_any_unit(tmp_path):
    planes = "".join(
        f'<Plane TheC="0" TheZ="0" TheT="{t}" DeltaT="{500 + 2000 * t}" DeltaTUnit="ms" '
        'PositionX="1.5" PositionXUnit="mm" PositionY="-200" PositionYUnit="µm" PositionZ="7"/>'
        for t in range(3)
    )
    index = write_one_image(
        tmp_path,
        c=1,
        z=2,
        t=3,
        names=["DAPI"],
        blocks=block() + planes,
        pixels='PhysicalSizeX="650" PhysicalSizeXUnit="nm" PhysicalSizeY="0.65" PhysicalSizeZ="2"',
        inner="<AcquisitionDate>2024-05-06T07:08:09</AcquisitionDate>",
    )
    assert (index.pixel_size_um, index.z_step_um, index.time_step_s) == (0.65, 2.0, 2.0)
    taken = datetime(2024, 5, 6, 7, 8, 9, 500_000, tzinfo=UTC)
    assert index.places == {key("A01", 0): Place(1500.0, -200.0, None, taken)}


def test_the_stages_label_and_the_samples_position(tmp_path):
    label = '<StageLabel Name="a" X="3" XUnit="mm" Y="4" YUnit="mm" Z="5" ZUnit="nm"/>'
    index = write_one_image(tmp_path / "a", inner=label)
    assert index.places == {key("A01", 0): Place(3000.0, 4000.0, pytest.approx(0.005))}
    plate = plate_xml({(0, 0): [(0, 0)]}).replace(
        'Index="0"', 'Index="0" PositionX="1" PositionXUnit="cm" PositionY="2" PositionYUnit="cm"'
    )
    assert write_one_image(tmp_path / "b", plate=plate).places == {
        key("A01", 0): Place(10_000.0, 20_000.0)
    }


def test_rows_may_be_named_by_numbers(tmp_path):
    plate = plate_xml(
        {(0, 1): [(0, 0)]},
        attributes='RowNamingConvention="number" ColumnNamingConvention="letter"',
    )
    index = write_one_image(tmp_path, plate=plate)
    assert (index.fields, index.shape) == ([key("A02", 0)], (8, 12))


@pytest.mark.parametrize(
    ("names", "labels"),
    [(("", ""), ["c0", "c1"]), (("Cy5", "Cy5"), ["Cy5_c0", "Cy5_c1"]), (("DAPI",), ["DAPI", "c1"])],
)
def test_channels_are_labelled(tmp_path, names, labels):
    assert list(write_one_image(tmp_path, names=names).channels.values()) == labels


def test_older_versions_of_the_schema(tmp_path):
    xml = ome(plate_xml({(0, 0): [(0, 0)]}), image_xml(0, block()))
    write_tiff(tmp_path / "a.ome.tif", xml.replace("2016-06", "2013-06"), planes=2)
    assert len(read(tmp_path).images) == 2


def test_the_plate_is_named_by_the_xml_where_a_folder_bears_that_name(tmp_path):
    assert write_one_image(tmp_path / "P1/images").plate == "P1"
    assert write_one_image(tmp_path / "other").plate == "other"


# --- what is no plate, and what is damaged -------------------------------------------------------


def test_files_that_tell_of_no_plate_are_left_to_others(tmp_path):
    folder = tmp_path / "P1"
    write_tiff(folder / "a.ome.tif", ome(image_xml(0, block())), planes=2)
    assert OmeTiff().recognise(folder) is None
    with pytest.raises(InputError, match=r"found a.ome.tif tells of no plate: name another layout"):
        read(folder)


def test_tifffiles_own_ome_tiff_tells_of_no_plate(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((2, 6, 8), "uint16"), ome=True)
    assert OmeTiff().recognise(tmp_path) is None


def test_other_files_of_the_folder_are_ignored(tmp_path):
    write_single_file(tmp_path)
    write_tiff(tmp_path / "overview.ome.tif", ome(image_xml(0, block())), planes=2)
    (tmp_path / "torn.ome.tif").write_bytes(b"II*\x00")
    (tmp_path / "notes.txt").touch()
    index = read(tmp_path)
    assert dict(index.ignored) == {
        "overview.ome.tif": "its OME-XML tells of no plate",
        "torn.ome.tif": "its OME-XML cannot be read",
        "notes.txt": "not named in the OME-XML of the plate",
    }
    assert any(line.startswith("the OME-XML of torn.ome.tif") for line in index.missing)


def test_two_plates_in_a_folder_are_refused(tmp_path):
    for name in ("P1", "P2"):
        xml = ome(plate_xml({(0, 0): [(0, 0)]}, name=name), image_xml(0, block()))
        write_tiff(tmp_path / f"{name}.ome.tif", xml, planes=2)
    with pytest.raises(InputError, match=r"found 2: P1 \(P1.ome.tif\), P2 \(P2.ome.tif\)"):
        read(tmp_path)


def test_the_same_plane_in_two_files_is_refused(tmp_path):
    xml = ome(plate_xml({(0, 0): [(0, 0)]}), image_xml(0, block()))
    for name in ("a", "b"):
        write_tiff(tmp_path / f"{name}.ome.tif", xml, planes=2)
    with pytest.raises(InputError, match=r"a.ome.tif \(page 0\) and b.ome.tif \(page 0\)"):
        read(tmp_path)


def test_a_well_off_the_plate_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"2 x 3 plate in the OME-XML, found A04"):
        write_one_image(tmp_path, plate=plate_xml({(0, 3): [(0, 0)]}))
    with pytest.raises(InputError, match=r"found row 32 and column 0"):
        write_one_image(tmp_path, plate=plate_xml({(32, 0): [(0, 0)]}))


def test_names_that_lead_out_of_the_folder_are_not_followed(tmp_path):
    write_tiff(tmp_path / "secret.tif", "", planes=2)
    blocks = block(file="../secret.tif")
    with pytest.raises(InputError, match="found none of them"):
        write_one_image(tmp_path / "P1", blocks=blocks)


PLATE = plate_xml({(0, 0): [(0, 0)]})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<OME",
        "<Other/>",
        '<!DOCTYPE OME [<!ENTITY a "b">]><OME/>',
        '<?xml version="1.0" encoding="utf-99"?><OME/>',
        ome(PLATE, '<Image ID="Image:0"/>'),
        ome(PLATE, image_xml(0, block(), c=0)),
        ome(PLATE, image_xml(0, block(), z=10**8)),
        ome(PLATE, image_xml(0, block(), order="XYZ")),
        ome(PLATE, image_xml(0, block(ifd="-1"))),
        ome(PLATE, image_xml(0, block(FirstZ=5))),
        ome(PLATE.replace('Row="0"', "")),
    ],
)
def test_text_that_is_no_ome_xml_is_told(tmp_path, text):
    with pytest.raises(ValueError, match=r"it|image|TiffData|Well"):
        parse_ome_xml(text.encode())
    write_tiff(tmp_path / "a.ome.tif", text, planes=1)
    with pytest.raises(InputError, match=r"expected OME-TIFF files .* found a.ome.tif"):
        read(tmp_path)


def test_annotations_are_not_taken_for_images():
    xml = ome(
        PLATE, image_xml(0, block()), "<StructuredAnnotations><Image/></StructuredAnnotations>"
    )
    assert list(parse_ome_xml(xml.encode()).images) == ["Image:0"]


def test_plates_are_found_each_once_and_by_this_layout_only(tmp_path):
    write_single_file(tmp_path / "P1")
    write_file_set(tmp_path / "run/P2", companion=True)
    assert find_plates(tmp_path) == [tmp_path / "P1", tmp_path / "run/P2"]
    for folder in find_plates(tmp_path):
        fitting = [name for name, layout in find_layouts().items() if layout.recognise(folder)]
        assert fitting == ["ome-tiff"]
