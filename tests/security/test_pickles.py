"""Nothing that is read is unpickled: a file that holds a pickle is refused before it runs."""

import io
import json
import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from phenopipe.errors import InputError
from phenopipe.ingest import ImageFault, read_image
from phenopipe.ingest.illumination import read_illumination


class Payload:
    """What leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "was-run"


@pytest.fixture
def payload(mark):
    return pickle.dumps([Payload(mark), "|O", [2, 2]])


def test_the_payload_runs_where_it_is_unpickled(payload, mark):
    pickle.loads(payload)  # noqa: S301 - our own, to show that it would
    assert mark.exists()


PICKLE = {"id": "pickle", "protocol": 5}
SCALE = {"id": "fixedscaleoffset", "offset": 0, "scale": 1, "dtype": "<u2"}
CHAINS = {
    "objects": {"dtype": "|O", "filters": [PICKLE], "compressor": None},
    "filter": {"dtype": "<u2", "filters": [PICKLE], "compressor": None},
    "last_filter": {"dtype": "<u2", "filters": [SCALE, PICKLE], "compressor": None},
    "compressor": {"dtype": "<u2", "filters": None, "compressor": PICKLE},
    "packed": {"dtype": "<u2", "filters": [PICKLE], "compressor": {"id": "zlib", "level": 1}},
}


@pytest.mark.parametrize("chain", CHAINS)
def test_a_vendors_zarr_2_array_of_pickles_is_a_fault(chain, payload, mark, tmp_path):
    array = tmp_path / "0"
    array.mkdir()
    described = {"zarr_format": 2, "shape": [2, 2], "chunks": [2, 2], "order": "C", "fill_value": 0}
    (array / ".zarray").write_text(json.dumps(described | CHAINS[chain]))
    packed = CHAINS[chain]["compressor"] == {"id": "zlib", "level": 1}
    (array / "0.0").write_bytes(zlib.compress(payload) if packed else payload)
    with pytest.raises(ImageFault):
        read_image(array)
    assert not mark.exists()


def test_a_map_whose_arrays_are_pickles_is_refused(payload, mark, tmp_path):
    folder = tmp_path / "map.zarr"
    (folder / "x" / "c").mkdir(parents=True)
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    array = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [2],
        "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "numcodecs.pickle", "configuration": {}}],
        "attributes": {},
        "dimension_names": ["feature"],
    }
    (folder / "zarr.json").write_text(json.dumps(group))
    (folder / "x" / "zarr.json").write_text(json.dumps(array))
    (folder / "x" / "c" / "0").write_bytes(payload)
    with (
        pytest.raises(Exception, match="pickle"),
        xr.open_zarr(folder, consolidated=False) as open_,
    ):
        open_.x.load()
    assert not mark.exists()


def test_an_illumination_function_of_objects_is_refused(mark, tmp_path):
    content = io.BytesIO()
    np.save(content, np.array([[Payload(mark)]], dtype=object), allow_pickle=True)
    path = tmp_path / "Illum.npy"
    path.write_bytes(content.getvalue())
    with pytest.raises(InputError):
        read_illumination(path)
    assert not mark.exists()
