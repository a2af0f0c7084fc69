import io

import numpy as np
import pytest
import tifffile

from phenopipe.ingest.images import ImageFault
from phenopipe.ingest.metaseries import read_metaseries

PIXELS = np.zeros((24, 19), dtype=np.uint16)
LAUGHS = "".join(
    f'<!ENTITY l{n} "&l{n - 1};&l{n - 1};&l{n - 1};&l{n - 1};&l{n - 1};&l{n - 1};&l{n - 1};">'
    for n in range(1, 30)
)


def tiff_bytes(**options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, PIXELS, **{"description": "one field", **options})
    return buffer.getvalue()


def test_reads_the_pixel_size_of_the_resolution_tag(tmp_path):
    path = tmp_path / "field.tif"
    path.write_bytes(tiff_bytes(resolution=(1e4 / 0.65, 1e4 / 0.65), resolutionunit="CENTIMETER"))
    assert read_metaseries(path) == ({}, pytest.approx(0.65))
    path.write_bytes(tiff_bytes(resolution=(72, 72), resolutionunit="INCH"))
    assert read_metaseries(path) == ({}, None)


def test_refuses_a_description_whose_entities_would_fill_the_memory(tmp_path):
    path = tmp_path / "field.tif"
    text = (
        f"<!DOCTYPE M [<!ENTITY l0 'l'>{LAUGHS}]><MetaData><PlaneInfo>&l29;</PlaneInfo></MetaData>"
    )
    path.write_bytes(tiff_bytes(description=text, metadata=None))
    with pytest.raises(ImageFault) as caught:
        read_metaseries(path)
    assert caught.value.kind == "corrupt"


def test_a_file_that_is_no_tiff_is_a_fault(tmp_path):
    path = tmp_path / "field.tif"
    path.write_bytes(b"no image")
    with pytest.raises(ImageFault):
        read_metaseries(path)
