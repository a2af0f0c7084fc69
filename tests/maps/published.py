"""Maps that are published as they are, and a plate to make one from."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr

from phenopipe.lake import Lake, Recipe, embeddings, map_part
from phenopipe.maps.relations import top_neighbours
from phenopipe.maps.store import write_zarr
from phenopipe.plates import PlateKey, Well
from phenopipe.schema import embeddings_schema

DIMS = ("perturbation", "feature")


def describe_map(embedding, names, *, kinds=None) -> xr.Dataset:
    """Make a map's dataset of embeddings alone: no arms, nothing corrected."""
    n = len(names)
    kinds = ["gene"] * n if kinds is None else list(kinds)
    is_gene = np.array(kinds) == "gene"
    texts = {
        "gene": np.where(is_gene, names, ""),
        "arm": np.where(is_gene, "17p", ""),
        "kind": np.array(kinds),
        "compound": np.where(is_gene, "", names),
    }
    numbers = {
        "unexpressed": np.arange(n) % 3 == 0,
        "n_wells": np.full(n, 8, dtype=np.int32),
        "n_guides": np.where(is_gene, 4, 0).astype(np.int32),
        "concentration_um": np.where(is_gene, np.nan, 2.5),
        "agreement": np.where(is_gene, 0.5, np.nan),
    }
    rows = np.asarray(embedding, dtype=np.float32)
    return xr.Dataset(
        {
            "embedding": (DIMS, rows),
            "embedding_uncorrected": (DIMS, rows + np.float32(1)),
            **{key: ("perturbation", text.astype(object)) for key, text in texts.items()},
            **{key: ("perturbation", values) for key, values in numbers.items()},
        },
        coords={"perturbation": np.array(names, dtype=object)},
        attrs={"model": "classical", "align": "tvn", "correct": "arms", "experiments": ["E1"],
               "exclusions": "[]", "arms": "[]"},
    )  # fmt: skip


def publish_map(lake: Lake, name: str, embedding, names, *, kinds=None, top=20) -> xr.Dataset:
    dataset = describe_map(embedding, names, kinds=kinds)
    table = top_neighbours(embedding, names, kinds=dataset["kind"].to_numpy(), top=top)
    things = {part: map_part(name, part) for part in ("neighbours.parquet", "map.zarr")}
    with lake.writing(*things.values()):
        with lake.draft(things["neighbours.parquet"]) as path:
            pq.write_table(table, path)
        with lake.draft(things["map.zarr"]) as path:
            write_zarr(dataset, path)
        for thing in things.values():
            recipe = Recipe("map", 1, {}, {"name": name})
            started = datetime(2026, 1, 1, tzinfo=UTC)
            lake.publish(thing, recipe, counts={"perturbations": len(names)}, started=started)
    return dataset


def publish_plate(lake: Lake, *, n_genes=30, width=6) -> None:
    """Publish one plate's embeddings: 24 controls, and two wells a gene."""
    random = np.random.default_rng(8)
    genes = ["", *(f"GENE{i:02d}" for i in range(n_genes))]
    rows = []
    for index, gene in enumerate([""] * 24 + genes[1:] * 2):
        vector = random.normal(size=width) + 3 * np.cos(np.arange(width) * genes.index(gene))
        what = {"perturbation": gene or "NTC", "gene": gene, "guide": gene and f"{gene}_1"}
        kind = {"perturbation_type": "crispr" if gene else "control"}
        kind["control_type"] = "" if gene else "negative"
        place = {"experiment": "E1", "plate": "P1", "well": str(Well(index // 12, index % 12))}
        crop = {"field": 1, "y": 0, "x": 0, "compound": "", "smiles": ""}
        rows.append({**place, **crop, **what, **kind, "embedding": vector.tolist()})
    thing = embeddings("classical", PlateKey("E1", "P1"))
    with lake.writing(thing):
        with lake.draft(thing) as path:
            pq.write_table(pa.Table.from_pylist(rows, schema=embeddings_schema(width)), path)
        recipe = Recipe("embed", 1, {}, {}, "ab" * 32)
        lake.publish(thing, recipe, counts={}, started=datetime(2026, 1, 1, tzinfo=UTC))
