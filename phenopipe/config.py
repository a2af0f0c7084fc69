"""What a user may set: one frozen section a stage, read from files or arguments at the edge."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from phenopipe.errors import InputError

S = TypeVar("S", bound="Section")

# What happens at a field's border, where crops do not fit; what a vector is of; where a model runs.
Edge = Literal["centre", "shift", "pad"]
Per = Literal["crop", "field"]

# How batches are made alike; how profiles of one guide or perturbation become one.
Align = Literal["tvn", "centerscale", "pca-centerscale", "sphering", "none"]
Aggregate = Literal["mean", "median", "tukey"]
Provider = Literal["cpu", "cuda", "tensorrt", "openvino"]
ExpressionUnit = Literal["zfpkm", "fpkm", "tpm"]

# What the platemap may name as a compound and is none: what compounds are dissolved in.
VEHICLES = ("DMSO",)
Vehicles = Annotated[
    tuple[str, ...], Field(description="What the platemap may name as a compound and is none.")
]


class Section(BaseModel):
    """A frozen section that refuses names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class QCConfig(Section):
    """Thresholds of the verdicts; a field that fails is kept out of embedding."""

    max_saturated: float = Field(
        0.02,
        ge=0,
        le=1,
        description="A field fails where a channel has more than this share of its pixels at the "
        "camera's maximum.",
    )
    min_foreground: float = Field(
        0.002,
        ge=0,
        le=1,
        description="A field fails as empty where no channel has this share of its pixels above "
        "background.",
    )
    min_cells: int | None = Field(
        None, ge=1, description="A field fails with fewer cells than this; not asked if None."
    )
    focus_deviations: float = Field(
        6.0,
        gt=0,
        description="A field fails as out of focus where half of its channels lie this many "
        "robust deviations below the plate's median; it warns where one does.",
    )
    min_fields: int = Field(
        12, ge=3, description="Fields that a plate must have to judge one against the others."
    )
    min_detail: float = Field(
        0.15,
        ge=0,
        le=0.5,
        description="A field warns as blurred where half of its channels show no detail finer "
        "than this, in cycles a pixel: sharp images reach 0.3 to 0.4; 0 asks nothing.",
    )
    max_failed_fields: float = Field(
        0.25, ge=0, le=1, description="A plate fails where more than this share of its fields do."
    )
    warn_failed_fields: float = Field(
        0.05, ge=0, le=1, description="A plate warns where more than this share of its fields fail."
    )
    max_blurred_fields: float = Field(
        0.5,
        ge=0,
        le=1,
        description="A plate warns as blurred where more than this share of its fields warn so.",
    )
    effect_fdr: float = Field(
        0.01,
        gt=0,
        le=1,
        description="False discovery rate of a plate's edge, row and column tests.",
    )
    max_edge_effect: float = Field(
        0.33,
        ge=0,
        le=1,
        description="A plate warns where its outer wells differ from the inner ones by more: "
        "|2 P(outer > inner) - 1|, 0 for none and 1 where they do not overlap.",
    )
    max_line_effect: float = Field(
        0.14,
        ge=0,
        le=1,
        description="A plate warns where its rows, or its columns, explain more than this share "
        "of the variance of its wells' ranks.",
    )
    drift_deviations: float = Field(
        5.0,
        gt=0,
        description="A plate warns in the batch's table where its median lies this many robust "
        "deviations from that of the batch's plates.",
    )
    min_plates: int = Field(
        4, ge=3, description="Plates that a batch must have to judge one against the others."
    )


class IngestConfig(Section):
    """How a vendor's folder becomes a plate image."""

    layout: str = Field("auto", description="The vendor's layout, or auto.")
    pattern: str | None = Field(
        None,
        description="Your own regular expression of file paths, with groups named plate, well, "
        "site, channel, z and t; instead of a layout.",
    )
    channels: Path | None = Field(
        None, description="A CSV with columns channel and stain: vendor names to stains."
    )
    z: Literal["keep", "max"] | Annotated[int, Field(ge=0)] = Field(
        "keep", description="z-stacks: keep them, project their maximum, or pick one step from 0."
    )
    t: Literal["keep"] | Annotated[int, Field(ge=0)] = Field(
        "keep", description="Time points: keep all, or pick one from 0."
    )
    illumination: bool = Field(
        False, description="Divide images by the layout's illumination functions."
    )
    missing: Literal["fail", "skip"] = Field(
        "fail", description="A site without all its channels: fail the site, or fill with zeros."
    )
    levels: int = Field(2, ge=1, le=8, description="Resolution levels of the pyramid.")
    chunk: int = Field(128, ge=16, description="Side of an inner chunk in pixels, at most.")
    qc: QCConfig = QCConfig()


class EmbedConfig(Section):
    """How fields become embeddings."""

    crop: int | None = Field(None, ge=16, description="Crop's side in pixels; the card's if None.")
    stride: int | None = Field(
        None, ge=1, description="Step between crops; the crop's side if None."
    )
    edge: Edge = Field(
        "centre",
        description="Pixels left over at the border: centre leaves them out on both sides, shift "
        "moves the last crops inwards to see them, pad reflects the field beyond its border.",
    )
    rescale: bool = Field(
        True,
        description="Bring the plate to the size of pixels that the model's card asks for; false "
        "shows the model the plate's own pixels.",
    )
    turns: Literal[1, 4] = Field(
        1,
        description="4 averages each crop's vector over its four quarter turns, at four times "
        "the work.",
    )
    per: Per = Field(
        "crop", description="Rows of the table: one a crop, or one a field, the crops' mean."
    )
    provider: Provider = Field(
        "cpu", description="ONNX Runtime's execution provider; never another than this one."
    )
    include_failed: bool = Field(False, description="Embed the fields that failed QC too.")
    patience_s: float = Field(
        900.0,
        gt=0,
        description="A worker that takes longer over one field, in seconds, is taken for hung and "
        "replaced.",
    )


class GeneFiles(Section):
    """A screen's own tables of genes; where there is none, what the package or platemaps know."""

    expression: Path | None = Field(
        None, description="zFPKM, FPKM or TPM by gene; the platemaps' column zfpkm if None."
    )
    expression_unit: ExpressionUnit | None = Field(
        None, description="What its values are, where the names of its columns do not say."
    )
    symbols: Path | None = Field(
        None,
        description="HGNC's hgnc_complete_set.txt, to find genes by former symbols and aliases.",
    )
    withdrawn: Path | None = Field(
        None, description="HGNC's withdrawn.txt: what became of symbols that are no more."
    )
    positions: Path | None = Field(
        None,
        description="Columns gene, chrom, start and end: arms come from it, not from HGNC's loci.",
    )
    centromeres: Path | None = Field(
        None, description="UCSC's table of the same assembly: chrom, chromStart and chromEnd."
    )

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        for one, other in (
            ("positions", "centromeres"),
            ("centromeres", "positions"),
            ("withdrawn", "symbols"),
            ("expression_unit", "expression"),
        ):
            if getattr(self, one) is not None and getattr(self, other) is None:
                raise ValueError(f"{one} without {other}: give both, or neither")
        return self


class MapConfig(Section):
    """How embeddings become a map."""

    align: Align = Field(
        "tvn", description="How batches are made alike on their negative controls."
    )
    n_components: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        "auto",
        description="Principal components kept: a number, as many as controls support, or all.",
    )
    correct: Literal["arms", "none"] = Field(
        "arms", description="Take what an arm's unexpressed genes share from all its genes."
    )
    min_reference: int = Field(20, ge=1, description="Unexpressed genes that an arm must exceed.")
    top: int = Field(20, ge=1, description="Neighbours kept for each perturbation.")
    well_verdict: Literal["any", "warn", "pass"] = Field(
        "any", description="The worst QC verdict that a well may have."
    )
    min_cells: int | None = Field(
        None, ge=1, description="A well needs so many cells; not asked if None."
    )
    max_missing: float = Field(
        0.05,
        ge=0,
        le=1,
        description="A feature is left out where it is not finite in more than this share of "
        "wells; a well where any other feature is not.",
    )
    min_variance: float | None = Field(
        None,
        ge=0,
        le=1,
        description="A feature is left out where its variance is at most this share of its mean "
        "square; not asked if None. For features with names, 1e-6 is usual.",
    )
    max_correlation: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Of features that correlate more strongly only one stays; not asked if None. "
        "For features with names, 0.9 is usual.",
    )
    aggregate: Aggregate = Field(
        "mean",
        description="How wells become a guide, and guides a perturbation: mean, median, or "
        "Tukey's biweight, value by value.",
    )
    guides: Literal["all", "agreeing"] = Field(
        "all",
        description="agreeing leaves out a guide that is no more like its gene's other guides "
        "than a random one, where these agree among themselves.",
    )
    vehicles: Vehicles = VEHICLES
    genes: GeneFiles = GeneFiles()


class BenchmarkConfig(Section):
    """How a map is scored."""

    thresholds: tuple[float, float] = Field(
        (0.05, 0.95), description="Tails of all pairs' cosines in which a known pair is recalled."
    )
    n_bootstrap: int = Field(
        1000, ge=100, description="Resamples of perturbations for the intervals."
    )
    n_shuffles: int = Field(200, ge=20, description="Shuffles of the labels for the null's band.")
    n_null: int = Field(
        10_000,
        ge=100,
        description="Random draws behind the p-value of one perturbation's replicates, and flips "
        "of signs where two maps are compared.",
    )
    pins: dict[str, str] = Field(
        {},
        description="BLAKE3 digests of annotation files, by name: a file that differs is refused.",
    )
    seed: int = 0


class HitsConfig(Section):
    """How active perturbations are called, and compounds are ranked against a disease."""

    min_wells: int = Field(
        3, ge=2, description="Wells that a perturbation needs to be tested, and a disease too."
    )
    min_controls: int = Field(
        8,
        ge=2,
        description="Negative controls that each plate of an experiment needs for wells to be "
        "compared with their own plate's; with all of the experiment where one has fewer.",
    )
    max_wells: int = Field(
        256,
        ge=16,
        description="Wells of a perturbation, and controls beside it, that are compared at most; "
        "drawn at random where there are more.",
    )
    n_permutations: int = Field(
        10_000, ge=100, description="Permutations of labels, at most: the least p is one over them."
    )
    n_bootstrap: int = Field(1000, ge=100, description="Resamples of wells for the intervals.")
    vehicles: Vehicles = VEHICLES
    seed: int = 0


class Settings(Section):
    """The sections of a settings file, one a stage: what an assay needs is written down once."""

    ingest: IngestConfig = IngestConfig()
    embed: EmbedConfig = EmbedConfig()
    map: MapConfig = MapConfig()
    benchmark: BenchmarkConfig = BenchmarkConfig()
    hits: HitsConfig = HitsConfig()


def read_settings(path: str | Path) -> Settings:
    """Read a settings file: TOML with a table a stage, such as ``[ingest.qc]``.

    A path to another file in it is relative to the settings file.

    Raises
    ------
    InputError
        If the file cannot be read, or a name or value in it is not known.
    """
    path = Path(path)
    try:
        settings = Settings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(
            f"expected settings as TOML at {path}, found {error}: check the path and the file"
        ) from error
    except ValidationError as error:
        raise InputError(f"expected settings in {path}, found {_first_error(error)}") from error
    ingest = _place_files(settings.ingest, path.parent)
    genes = _place_files(settings.map.genes, path.parent)
    chosen = settings.map.model_copy(update={"genes": genes})
    return settings.model_copy(update={"ingest": ingest, "map": chosen})


def _place_files(section: S, folder: Path) -> S:
    """Take the paths of a section as relative to a folder."""
    files = {name: folder / value for name, value in section if isinstance(value, Path)}
    return section.model_copy(update=files)


def override(section: S, **given: object) -> S:
    """Set the values of a section that are given; those that are None stay.

    Raises
    ------
    InputError
        If a value is not allowed.

    Examples
    --------
    >>> override(IngestConfig(), z="max", t=None).z
    'max'
    """
    values = {name: value for name, value in given.items() if value is not None}
    try:
        return type(section).model_validate(section.model_dump() | values)
    except ValidationError as error:
        raise InputError(f"expected usable arguments, found {_first_error(error)}") from error


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "value_error":  # what a section says of its values together
        return f"{where}: {first['ctx']['error']}".removeprefix(": ")
    return f"{where} = {first['input']!r} ({first['msg']}): correct it"
