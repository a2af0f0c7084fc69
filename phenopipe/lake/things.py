"""What a lake holds: the names of things, and where each lies under the root."""

from dataclasses import dataclass

from phenopipe.plates import PlateKey, check_name

# Where the things of each kind lie under ``<root>/<kind>``.
PATTERNS = {
    "images": "*/*.zarr",
    "qc": "*/*.parquet",
    "effects": "*/*.parquet",
    "heatmaps": "*/*.png",
    "drift": "*.parquet",
    "ledger": "*/*.parquet",
    "platemaps": "*/*.parquet",
    "landing": "*/*.parquet",
    "embeddings": "*/*/*.parquet",
    "pieces": "*/*/*/*.arrow",
    "models": "*/*",
    "engines": "*/*/*",
    "maps": "*/*",
}


@dataclass(frozen=True, order=True, slots=True)
class Thing:
    """One published thing, by its path under the root.

    Examples
    --------
    >>> Thing("qc/HUVEC-1/Plate3.parquet").manifest
    'qc/HUVEC-1/Plate3.parquet.json'
    """

    path: str

    @property
    def kind(self) -> str:
        """The folder under the root: ``images``, ``qc``, and so on."""
        return self.path.split("/", 1)[0]

    @property
    def manifest(self) -> str:
        """The path of the thing's manifest under the root."""
        return f"{self.path}.json"

    @property
    def guard(self) -> "Thing":
        """The thing whose lock holds other writers off: the table's of which this is a piece.

        Examples
        --------
        >>> Thing("pieces/vit/HUVEC-1/Plate3/A01-1_A02-4.arrow").guard.path
        'embeddings/vit/HUVEC-1/Plate3.parquet'
        >>> Thing("qc/HUVEC-1/Plate3.parquet").guard.path
        'qc/HUVEC-1/Plate3.parquet'
        """
        if self.kind != "pieces":
            return self
        plate = self.path.removeprefix("pieces/").rsplit("/", 1)[0]
        return Thing(f"embeddings/{plate}.parquet")

    def __str__(self) -> str:
        return self.path


def plate_image(key: PlateKey) -> Thing:
    """Name a plate's image: ``images/<experiment>/<plate>.zarr``."""
    return Thing(f"images/{key}.zarr")


def qc_table(key: PlateKey) -> Thing:
    """Name a plate's QC table: ``qc/<experiment>/<plate>.parquet``."""
    return Thing(f"qc/{key}.parquet")


def plate_effects(key: PlateKey) -> Thing:
    """Name a plate's edge, row and column effects: ``effects/<experiment>/<plate>.parquet``."""
    return Thing(f"effects/{key}.parquet")


def heatmaps(key: PlateKey) -> Thing:
    """Name the pictures of a plate's QC: ``heatmaps/<experiment>/<plate>.png``."""
    return Thing(f"heatmaps/{key}.png")


def drift(experiment: str) -> Thing:
    """Name how an experiment's plates differ from one another: ``drift/<experiment>.parquet``."""
    return Thing(f"drift/{check_name(experiment, what='experiment')}.parquet")


def ledger(key: PlateKey) -> Thing:
    """Name a plate's ledger: ``ledger/<experiment>/<plate>.parquet``."""
    return Thing(f"ledger/{key}.parquet")


def platemap(key: PlateKey) -> Thing:
    """Name a plate's canonical platemap: ``platemaps/<experiment>/<plate>.parquet``."""
    return Thing(f"platemaps/{key}.parquet")


def landing(key: PlateKey) -> Thing:
    """Name how a plate's folder looked when ingested: ``landing/<experiment>/<plate>.parquet``."""
    return Thing(f"landing/{key}.parquet")


def embeddings(model: str, key: PlateKey) -> Thing:
    """Name a plate's embeddings: ``embeddings/<model>/<experiment>/<plate>.parquet``."""
    return Thing(f"embeddings/{check_name(model, what='model')}/{key}.parquet")


def pieces_folder(table: Thing) -> str:
    """Name the folder of an embeddings table's pieces under ``pieces/``."""
    return table.path.removeprefix("embeddings/").removesuffix(".parquet")


def piece_of(table: Thing, name: str) -> Thing:
    """Name a piece of embeddings: ``pieces/<model>/<experiment>/<plate>/<name>.arrow``."""
    return Thing(f"pieces/{pieces_folder(table)}/{name}.arrow")


def model_folder(name: str, model_version: str) -> Thing:
    """Name a model: ``models/<name>/<version>``."""
    check_name(model_version, what="model version")
    return Thing(f"models/{check_name(name, what='model')}/{model_version}")


def engine_folder(digest: str, gpu: str, settings: str) -> Thing:
    """Name TensorRT's engine of a model: ``engines/<model's digest>/<gpu>/<settings>``."""
    parts = (digest, check_name(gpu, what="GPU"), check_name(settings, what="engine"))
    return Thing(f"engines/{'/'.join(parts)}")


def map_part(name: str, part: str) -> Thing:
    """Name one thing of a map: ``maps/<map>/map.zarr``, ``neighbours.parquet`` and so on."""
    return Thing(f"maps/{check_name(name, what='map')}/{part}")
