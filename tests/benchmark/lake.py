"""A published map with wells, and annotations, for tests of the stage."""

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import xarray as xr

from phenopipe.lake import Recipe, map_part
from tests.benchmark.screens import lay_out, write_wells

GENES = [f"G{i:02d}" for i in range(60)]


def publish_map(lake, *, name="demo", correct="arms", seed=0, wells=False, noise=0.0, genes=GENES):
    """Publish a map of three arms, of which one is biased; its wells are five replicates."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(60, 6)).astype(np.float32)
    raw[:20] += 1
    raw += noise * np.random.default_rng(seed + 1).normal(size=raw.shape).astype(np.float32)
    corrected = raw.copy()
    corrected[:20] -= 1 if correct == "arms" else 0
    one = ("perturbation",)
    dataset = xr.Dataset(
        {
            "embedding": (("perturbation", "feature"), corrected),
            "embedding_uncorrected": (("perturbation", "feature"), raw),
            "gene": (one, np.array(genes, dtype=object)),
            "arm": (one, np.repeat(np.array(["1p", "1q", ""], dtype=object), 20)),
            "unexpressed": (one, np.arange(60) % 4 == 0),
            "kind": (one, np.full(60, "gene", dtype=object)),
            "compound": (one, np.full(60, "", dtype=object)),
            "concentration_um": (one, np.full(60, np.nan)),
            "n_wells": (one, np.full(60, 5, dtype=np.int32)),
            "n_guides": (one, np.zeros(60, dtype=np.int32)),
            "agreement": (one, np.full(60, np.nan)),
        },
        coords={"perturbation": np.array(genes, dtype=object)},
        attrs={"correct": correct},
    )
    things = [map_part(name, "map.zarr")]
    if wells:
        things.append(map_part(name, "wells.parquet"))
    drawn = {"seed": seed, "noise": noise, "genes": list(genes)}
    recipe = Recipe("map", 1, {}, {"correct": correct, "align": "tvn", **drawn})
    with lake.writing(*things):
        with lake.draft(things[0]) as path:
            dataset.to_zarr(path, zarr_format=3, consolidated=False)
        if wells:
            labels = [*np.repeat(genes, 5).tolist(), *[""] * 40]
            values = rng.normal(size=(340, 6))
            values[:300] += np.repeat(raw, 5, axis=0)
            with lake.draft(things[1]) as path:
                write_wells(path, lay_out(labels), values)
        for thing in reversed(things):
            lake.publish(thing, recipe, counts={}, started=datetime.now(UTC))
    return dataset


def write_annotations(folder):
    """Write pairs, of which one source is not of this map, and clusters."""
    folder.mkdir()
    lines = "\n".join(f"{a},{b}" for a, b in pairwise(GENES))
    (folder / "pathways.txt").write_text(f"entity1,entity2\n{lines}\n")
    (folder / "others.txt").write_text("entity1,entity2\nX,Y\n")
    (folder / "complexes.tsv").write_text(
        "\n".join(f"C{i}\t{' '.join(GENES[i * 12 : i * 12 + 12])}" for i in range(5))
    )
    return folder
