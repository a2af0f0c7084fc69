"""Reading a vendor's XML: streamed, of bounded size, and never one that declares entities."""

import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from xml.parsers import expat

# The index of a 1,536-well plate with 16 fields, 6 channels and 4 planes has some 600 bytes for
# each of 600,000 images; above that the file is damage or worse.
_MOST_BYTES = 512 * 2**20
_CHUNK_BYTES = 64 * 2**10

# What reading XML can raise: the parser's own errors, unknown encodings, and our refusals.
XML_ERRORS = (OSError, ET.ParseError, expat.ExpatError, LookupError, ValueError)


def read_root(path: Path) -> tuple[str, Mapping[str, str]]:
    """Read the name and attributes of a file's root element, without namespaces.

    No more of the file is read than that. A document type is refused: no vendor writes one,
    and what it can declare (entities within entities, files elsewhere) only does harm.

    Raises
    ------
    ValueError
        If the file is too large, declares a document type, or has no root element.
    OSError, ExpatError, LookupError
        If the file cannot be read or is not XML.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"it has {path.stat().st_size} bytes, more than {_MOST_BYTES}")
    root: list[tuple[str, Mapping[str, str]]] = []

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type")

    parser = expat.ParserCreate(namespace_separator="}")

    def keep(name: str, attributes: dict[str, str]) -> None:
        root.append((local_name(name), local_names(attributes)))
        parser.StartElementHandler = None

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = keep
    with path.open("rb") as file:
        while not root and (chunk := file.read(_CHUNK_BYTES)):
            parser.Parse(chunk)
    if not root:
        raise ValueError("it has no element")
    return root[0]


def stream_elements(path: Path, names: Collection[str]) -> Iterator[ET.Element]:
    """Give the elements of these names as they end, then forget their content.

    Names are compared without their namespace: it differs from version to version.

    Raises
    ------
    ValueError, OSError, ParseError, ExpatError, LookupError
        As `read_root`, or if the file ends too early or is damaged further on; `XML_ERRORS` has
        them all.
    """
    read_root(path)
    # A file without a document type cannot declare entities.
    for _, element in ET.iterparse(path, events=("end",)):  # noqa: S314
        if local_name(element.tag) in names:
            yield element
            element.clear()


def local_name(name: str) -> str:
    """Cut the namespace off an element's or attribute's name.

    Examples
    --------
    >>> local_name("{http://www.perkinelmer.com/PEHH/HarmonyV5}Plate")
    'Plate'
    """
    return name.rpartition("}")[2]


def local_names(attributes: Mapping[str, str]) -> dict[str, str]:
    """Cut the namespaces off attributes' names.

    Examples
    --------
    >>> local_names({"{http://www.yokogawa.co.jp/BTS/BTSSchema/1.0}Ch": "1"})
    {'Ch': '1'}
    """
    return {local_name(name): value for name, value in attributes.items()}
