"""What runs, artifacts and events are called: by these names lab ops find a plate or a model."""

import re
from contextlib import AbstractContextManager

from prefect import tags
from prefect.settings import PREFECT_UI_URL

from phenopipe.digests import digest_bytes
from phenopipe.plates import PlateKey


def tagged(
    *, experiment: str | None = None, plate: str | None = None, model: str | None = None
) -> AbstractContextManager[set[str]]:
    """Tag the runs that are started inside, such as ``experiment:HUVEC-1`` and ``model:vit``."""
    named = {"experiment": experiment, "plate": plate, "model": model}
    return tags(*(f"{what}:{name}" for what, name in named.items() if name))


def artifact_key(kind: str, *names: str) -> str:
    """Make the key of an artifact, which may hold small letters, digits and dashes only.

    Names that could be taken for others are told apart by a digest; by case alone they are not.

    Examples
    --------
    >>> artifact_key("qc", "Batch1", "Plate1")
    'qc-batch1-plate1'
    >>> artifact_key("qc", "a-b", "c"), artifact_key("qc", "a", "b_c")
    ('qc-a-b-c-6cc543', 'qc-a-b-c-a87d1e')
    """
    plain = re.sub("[^a-z0-9]+", "-", "-".join((kind, *names)).lower()).strip("-")
    if all(name.isalnum() for name in names):
        return plain
    return f"{plain}-{digest_bytes('/'.join(names).encode())[:6]}"


def artifact_url(key: str) -> str:
    """Give the page of an artifact's versions in Prefect's UI; empty where no UI is known."""
    ui = PREFECT_UI_URL.value()
    return f"{ui}/artifacts/key/{key}" if ui else ""


def plate_resource(key: PlateKey) -> dict[str, str]:
    """Name a plate as the resource that an event is about.

    Examples
    --------
    >>> plate_resource(PlateKey("Batch1", "Plate1"))["prefect.resource.id"]
    'phenopipe.plate.Batch1.Plate1'
    """
    return {
        "prefect.resource.id": f"phenopipe.plate.{key.experiment}.{key.plate}",
        "prefect.resource.name": str(key),
        "prefect.resource.role": "plate",
    }
