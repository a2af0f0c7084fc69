"""Lakes with something to send: three plates of two experiments, a model, what it embedded."""

from datetime import UTC, datetime

from phenopipe.lake import (
    Lake,
    Recipe,
    embeddings,
    model_folder,
    plate_image,
    platemap,
    qc_table,
)
from phenopipe.lake import drift as drift_thing
from phenopipe.plates import PlateKey
from phenopipe.transfer import Selection, list_shipments, send_shipment

PLATES = [PlateKey("HUVEC-1", "P1"), PlateKey("HUVEC-1", "P2"), PlateKey("U2OS-1", "P1")]


def publish(lake, thing, files, *, inputs=None, version=1, model_digest=None):
    """Publish files, by their path in the thing, or ``.`` for a thing that is one."""
    with lake.writing(thing):
        for name, content in files.items():
            with lake.draft(thing, "" if name == "." else name) as path:
                path.write_bytes(content)
        recipe = Recipe("stage", version, inputs or {}, {}, model_digest)
        return lake.publish(thing, recipe, counts={}, started=datetime.now(UTC))


def publish_plate(lake, key, *, version=1):
    """Publish an image of several files, a table, a platemap, and what a model made of it."""
    fields = {f"A/01/{n}/0/c/0/0/0": f"{key} {n} {version}".encode() * 999 for n in range(4)}
    things = {
        platemap(key): {".": b"wells\r"},
        qc_table(key): {".": f"{key} {version}".encode()},
        plate_image(key): {"zarr.json": b"{}", "A/01/empty": b"", **fields},
    }
    made = [publish(lake, thing, files, version=version) for thing, files in things.items()]
    inputs = {manifest.thing: manifest.key for manifest in made}
    publish(lake, embeddings("vit", key), {".": f"{key} vectors".encode()}, inputs=inputs)


def publish_model(lake, *, graph=b"graph", card=b"{}"):
    files = {"model.onnx": graph, "card.json": card}
    publish(lake, model_folder("vit", "1"), files, model_digest=graph.hex())


def publish_drift(lake, experiment, keys):
    inputs = {qc_table(key).path: lake.manifest(qc_table(key)).key for key in keys}
    publish(lake, drift_thing(experiment), {".": b"drift"}, inputs=inputs)


def fill(lake: Lake) -> Lake:
    """Publish three plates and a model."""
    for key in PLATES:
        publish_plate(lake, key)
    publish_model(lake)
    return lake


def send_all(source, target, **options):
    """Send everything; what became of each shipment, by its name."""
    shipments = list_shipments(source, Selection())
    return {one.name: send_shipment(source, target, one, **options) for one in shipments}


def read_all(lake):
    """Read every byte of a lake, manifests too, by path; but for the locks."""
    files = lake._storage.list_files("")
    return {name: lake._storage.read(name) for name in files if not name.startswith(".locks/")}
