"""The embedding store: published embeddings of many plates, for people and for other libraries.

Plates whose vectors do not mean the same are refused, never mixed.
"""

from phenopipe.embeddings.average import (
    UNITS,
    average_embeddings,
    finite_vectors,
    group_means,
    vectors_of,
)
from phenopipe.embeddings.export import export_embeddings
from phenopipe.embeddings.frames import to_anndata, to_numpy, to_pandas, to_polars, to_pycytominer
from phenopipe.embeddings.store import (
    Embeddings,
    feature_names,
    find_embeddings,
    read_embeddings,
)

__all__ = [
    "UNITS",
    "Embeddings",
    "average_embeddings",
    "export_embeddings",
    "feature_names",
    "find_embeddings",
    "finite_vectors",
    "group_means",
    "read_embeddings",
    "to_anndata",
    "to_numpy",
    "to_pandas",
    "to_polars",
    "to_pycytominer",
    "vectors_of",
]
