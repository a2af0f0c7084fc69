"""Wells of a screen with known effects, for tests of metrics."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from phenopipe.config import BenchmarkConfig
from phenopipe.maps import TVN
from phenopipe.schema import wells_schema

FAST = BenchmarkConfig(n_bootstrap=200, n_shuffles=50, n_null=400)


def draw_screen(seed=0, *, effects=10, silent=30, controls=60, replicates=5, d=6):
    """Some perturbations with an effect, some without, and controls, in rows of wells."""
    rng = np.random.default_rng(seed)
    names = [f"G{i:02d}" for i in range(effects + silent)]
    means = np.zeros((len(names), d))
    means[:effects] = rng.normal(scale=2.5, size=(effects, d))
    labels = [*np.repeat(names, replicates).tolist(), *[""] * controls]
    values = rng.normal(size=(len(labels), d))
    values[: len(names) * replicates] += np.repeat(means, replicates, axis=0)
    order = rng.permutation(len(labels))
    return [labels[i] for i in order], values[order], names[:effects], names[effects:]


def write_wells(path: Path, rows: pd.DataFrame, values: np.ndarray) -> None:
    """Write aligned wells as build_map does: a row group a plate, sorted by plate."""
    schema = wells_schema(values.shape[1])
    whole = rows.assign(embedding=list(values.astype(np.float32)))
    for name in schema.names:
        if name not in whole:
            whole[name] = np.nan if name == "concentration_um" else ""
    order = whole.sort_values(["experiment", "plate", "well"], kind="stable")
    with pq.ParquetWriter(path, schema) as writer:
        for _, plate in order.groupby(["experiment", "plate"], sort=True):
            writer.write_table(pa.Table.from_pandas(plate, schema=schema, preserve_index=False))


def lay_out(labels: list[str], *, plates: int = 3) -> pd.DataFrame:
    """Spread replicates over plates; an empty label is a negative control."""
    n = np.arange(len(labels))
    return pd.DataFrame(
        {
            "experiment": "E1",
            "plate": [f"P{i % plates}" for i in n],
            "well": [f"A{i // plates + 1:03d}" for i in n],
            "label": labels,
            "control_type": ["" if label else "negative" for label in labels],
        }
    )


def align_reference(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Align the reference screen as EFAAR_benchmarking did: vectors and genes, a well a row."""
    x = np.load(folder / "in.npz")["x"]
    metadata = pd.read_parquet(folder / "md.parquet")
    genes, batch = metadata["gene"].to_numpy(dtype=object), metadata["batch"].to_numpy()
    tvn = TVN(n_components=None).fit(x, batch=batch, control=genes == "NTC")
    return tvn.transform(x, batch=batch), genes
