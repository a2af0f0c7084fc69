"""What a user may set: one frozen section a stage, read from files or arguments at the edge."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A frozen section that refuses names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class QCConfig(Section):
    """Thresholds of the verdicts; a field that fails is kept out of embedding."""

    max_saturated: float = Field(0.02, ge=0, le=1, description="Share of pixels at the maximum.")
    focus_deviations: float = Field(
        6.0, gt=0, description="Robust deviations below the plate's median focus that fail a field."
    )


class IngestConfig(Section):
    """How a vendor's folder becomes a plate image."""

    layout: str = Field("auto", description="The vendor's layout, or auto.")
    missing: Literal["fail", "skip"] = Field(
        "fail", description="A site without all its channels: fail the site, or fill with zeros."
    )
    levels: int = Field(2, ge=1, le=8, description="Resolution levels of the pyramid.")
    chunk: int = Field(128, ge=16, description="Inner chunk's side in pixels.")
    qc: QCConfig = QCConfig()


class EmbedConfig(Section):
    """How fields become embeddings."""

    crop: int | None = Field(None, ge=16, description="Crop's side in pixels; the card's if None.")
    stride: int | None = Field(
        None, ge=1, description="Step between crops; the crop's side if None."
    )


class MapConfig(Section):
    """How embeddings become a map."""

    align: Literal["tvn", "centerscale", "pca-centerscale", "none"] = "tvn"
    n_components: int | Literal["auto"] | None = "auto"
    correct: Literal["arms", "none"] = "arms"
    min_reference: int = Field(20, ge=1, description="Unexpressed genes that an arm must exceed.")
    top: int = Field(20, ge=1, description="Neighbours kept for each perturbation.")


class BenchmarkConfig(Section):
    """How a map is scored."""

    thresholds: tuple[float, float] = (0.05, 0.95)
    n_bootstrap: int = Field(1000, ge=100)
    n_shuffles: int = Field(200, ge=20, description="Shuffles of the arms' labels for the band.")
    seed: int = 0
