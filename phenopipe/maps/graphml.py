"""GraphML, edge by edge: perturbations are the nodes, pairs that stand out the edges.

http://graphml.graphdrawing.org/specification.html
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

import pandas as pd
import pyarrow as pa

from phenopipe.errors import InputError

_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
# What XML 1.0 cannot hold, not even escaped.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_EDGE_TYPES = {"relation": "string", "cosine": "double", "p_value": "double", "fdr": "double"}


@contextmanager
def write_graph(path: Path, nodes: pd.DataFrame) -> Iterator[Callable[[pa.Table], None]]:
    """Write an undirected graph's nodes, then the edges that are put, as they come.

    Parameters
    ----------
    nodes
        Indexed by name; its columns are the nodes' data. The name itself is the datum ``name``,
        which Cytoscape and igraph take for a node's name; ids are ``n0`` and so on, because
        GraphML's may hold no spaces.

    Yields
    ------
    callable
        Takes a table of :data:`phenopipe.maps.edges.EDGES`.

    Raises
    ------
    InputError
        If a text holds a character that XML cannot.
    """
    places = {name: f"n{place}" for place, name in enumerate(nodes.index)}
    data = nodes.rename_axis("name").reset_index()
    types = {str(name): _type_of(column) for name, column in data.items()}
    with path.open("wb") as file:
        xml = XMLGenerator(file, encoding="utf-8", short_empty_elements=True)
        xml.startDocument()
        xml.startElement("graphml", AttributesImpl({"xmlns": _NAMESPACE}))
        _declare(xml, "node", types)
        _declare(xml, "edge", _EDGE_TYPES)
        xml.startElement("graph", AttributesImpl({"edgedefault": "undirected"}))
        for values in data.itertuples(index=False, name=None):
            row = dict(zip(types, values, strict=True))
            _put(xml, "node", {"id": places[row["name"]]}, row)

        def put(edges: pa.Table) -> None:
            for row in edges.to_pylist():
                ends = {"source": row.pop("perturbation"), "target": row.pop("neighbour")}
                _put(xml, "edge", {end: places[name] for end, name in ends.items()}, row)

        yield put
        xml.endElement("graph")
        xml.endElement("graphml")
        xml.endDocument()


def _type_of(column: pd.Series) -> str:
    kinds = {"b": "boolean", "i": "long", "u": "long", "f": "double"}
    return kinds.get(column.dtype.kind, "string")


def _declare(xml: XMLGenerator, element: str, types: Mapping[str, str]) -> None:
    for name, kind in types.items():
        key = {"id": f"{element}_{name}", "for": element, "attr.name": name, "attr.type": kind}
        xml.startElement("key", AttributesImpl(key))
        xml.endElement("key")


def _put(xml: XMLGenerator, element: str, place: dict[str, str], row: Mapping[str, Any]) -> None:
    """Write one element; what is not known has no datum."""
    xml.startElement(element, AttributesImpl(place))
    for name, value in row.items():
        # Empty text, and NaN, which alone differs from itself.
        if value == "" or value != value:  # noqa: PLR0124
            continue
        xml.startElement("data", AttributesImpl({"key": f"{element}_{name}"}))
        xml.characters(_spell(value))
        xml.endElement("data")
    xml.endElement(element)
    xml.characters("\n")


def _spell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if strange := _NOT_IN_XML.search(text):
        raise InputError(
            f"expected text that GraphML can hold, found {strange[0]!r} in {text!r}: export "
            ".parquet, or name it without that character"
        )
    return text
