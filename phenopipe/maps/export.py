"""A published map as one file outside the lake: AnnData, or its edges as a graph or a table."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import xarray as xr

from phenopipe.embeddings.frames import require
from phenopipe.errors import InputError
from phenopipe.lake import Lake
from phenopipe.maps.edges import EDGES, find_edges
from phenopipe.maps.graphml import write_graph
from phenopipe.outputs import check_free, whole_file
from phenopipe.profiles import open_map

ENDS = (".h5ad", ".graphml", ".parquet", ".csv")
MAX_FDR = 0.05
_ROWS_A_GROUP = 1 << 17

Put = Callable[[pa.Table], None]


def export_map(
    lake: Lake, name: str, out: str | Path, *, max_fdr: float | None = None
) -> dict[str, int]:
    """Write a published map into one file, of the kind that its name's end says.

    The file is there when it is whole, never half of it. Edges are written as they are found, so
    memory does not grow with their number.

    Parameters
    ----------
    lake, name
        The lake and the map in it.
    out
        A local file that is not there yet. ``.h5ad``: AnnData, a row a perturbation, X the
        embedding, the layer ``uncorrected`` that before the correction. ``.graphml``,
        ``.parquet``, ``.csv``: the pairs that stand out, alike or opposite.
    max_fdr
        Pairs up to this false discovery rate; 0.05 if None. Not for ``.h5ad``, which holds none.

    Returns
    -------
    dict
        Counts: perturbations; features or edges.

    Raises
    ------
    InputError
        If the map is not published, the file is there already or cannot be made, its end is not
        known, or anndata is not installed for ``.h5ad``.
    """
    path = check_free(out)
    if path.suffix not in ENDS:
        raise InputError(
            f"expected a file that ends in {', '.join(ENDS)}, found {path.name}: its end says what "
            "to write"
        )
    if path.suffix == ".h5ad" and max_fdr is not None:
        raise InputError(
            f"expected no false discovery rate for {path.name}, found {max_fdr}: .h5ad holds no "
            "pairs; leave it out, or export .parquet"
        )
    dataset = open_map(lake, name)
    counts = {"perturbations": dataset.sizes["perturbation"]}
    with whole_file(path) as draft:
        if path.suffix == ".h5ad":
            _write_anndata(draft, dataset)
            return counts | {"features": dataset.sizes["feature"]}
        edges = _write_edges(draft, path.suffix, dataset, MAX_FDR if max_fdr is None else max_fdr)
    return counts | {"edges": edges}


def describe_perturbations(dataset: xr.Dataset) -> pd.DataFrame:
    """Give what a map knows of its perturbations, by name: text, numbers and flags.

    Examples
    --------
    >>> places = {"perturbation": ["TP53"]}
    >>> dataset = xr.Dataset({"arm": ("perturbation", ["17p"])}, coords=places)
    >>> describe_perturbations(dataset).to_dict("index")
    {'TP53': {'arm': '17p'}}
    """
    known = [name for name, array in dataset.data_vars.items() if array.dims == ("perturbation",)]
    columns = {}
    for name in known:
        values = dataset[name].to_numpy()
        # Python's own text: anndata up to 0.12 cannot write the kind that pandas 3 takes by itself.
        text = values.dtype.kind in "OUT"
        columns[str(name)] = pd.Series(
            [str(value) for value in values] if text else values,
            dtype=object if text else values.dtype,
        )
    names = [str(name) for name in dataset["perturbation"].to_numpy()]
    return pd.DataFrame(columns).set_axis(pd.Index(names, dtype=object), axis="index")


def _write_anndata(path: Path, dataset: xr.Dataset) -> None:
    anndata = require("anndata")
    digits = len(str(max(dataset.sizes["feature"] - 1, 0)))
    names = [f"feature_{k:0{digits}d}" for k in range(dataset.sizes["feature"])]
    attrs = dataset.attrs.items()
    facts = {k: np.array(v, dtype=object) if isinstance(v, list) else v for k, v in attrs}
    made = anndata.AnnData(
        X=dataset["embedding"].to_numpy().astype(np.float32),
        obs=describe_perturbations(dataset),
        var=pd.DataFrame(index=pd.Index(names, dtype=object)),
        layers={"uncorrected": dataset["embedding_uncorrected"].to_numpy().astype(np.float32)},
        uns={"map": facts},
    )
    made.write_h5ad(path)


def _write_edges(path: Path, end: str, dataset: xr.Dataset, max_fdr: float) -> int:
    nodes = describe_perturbations(dataset)
    edges = find_edges(
        dataset["embedding"].to_numpy(), nodes.index, kinds=nodes["kind"], max_fdr=max_fdr
    )
    sinks: dict[str, Callable[[Path], AbstractContextManager[Put]]] = {
        ".graphml": partial(write_graph, nodes=nodes),
        ".parquet": _parquet,
        ".csv": _csv,
    }
    with sinks[end](path) as put:
        total = 0
        for table in edges:
            put(table)
            total += len(table)
    return total


@contextmanager
def _parquet(path: Path) -> Iterator[Put]:
    """Write row groups of a useful size, whatever the size of what comes."""
    held: list[pa.Table] = []
    with pq.ParquetWriter(path, EDGES, compression="zstd") as writer:

        def put(table: pa.Table) -> None:
            held.append(table)
            if sum(len(part) for part in held) >= _ROWS_A_GROUP:
                flush()

        def flush() -> None:
            writer.write_table(pa.concat_tables(held, promote_options="none"))
            held.clear()

        yield put
        if held:
            flush()


@contextmanager
def _csv(path: Path) -> Iterator[Put]:
    with pa_csv.CSVWriter(path, EDGES) as writer:
        yield writer.write_table
