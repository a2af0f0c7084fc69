"""What a user may set: one frozen section a stage, read from files or arguments at the edge."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A frozen section that refuses names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class QCConfig(Section):
    """Thresholds of the verdicts; a field that fails is kept out of embedding."""

    max_saturated: float = Field(
        0.02, ge=0, le=1, description="Share of a channel's pixels at the camera's maximum."
    )
    min_foreground: float = Field(
        0.002,
        ge=0,
        le=1,
        description="Share of pixels above background that one channel must have: else empty.",
    )
    focus_deviations: float = Field(
        6.0, gt=0, description="Robust deviations below the plate's median focus that fail a field."
    )
    min_fields: int = Field(
        12, ge=3, description="Fields that a plate must have for its focus to be judged."
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
    provider: Literal["cpu", "cuda"] = Field(
        "cpu", description="ONNX Runtime's execution provider; never another than this one."
    )
    include_failed: bool = Field(False, description="Embed the fields that failed QC too.")


class MapConfig(Section):
    """How embeddings become a map."""

    align: Literal["tvn", "centerscale", "pca-centerscale", "none"] = Field(
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


class BenchmarkConfig(Section):
    """How a map is scored."""

    thresholds: tuple[float, float] = Field(
        (0.05, 0.95), description="Tails of all pairs' cosines in which a known pair is recalled."
    )
    n_bootstrap: int = Field(
        1000, ge=100, description="Resamples of perturbations for the intervals."
    )
    n_shuffles: int = Field(200, ge=20, description="Shuffles of the labels for the null's band.")
    seed: int = 0
