"""What a simulated screen is: its size, its effects and its nuisances, each with a strength."""

from pydantic import Field

from phenopipe.config import Section

# Wave names in the order of w1 to w6: the Cell Painting stains.
CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito", "Cytoplasm")


class ScreenDesign(Section):
    """How the screen is imaged, and how strong its true effects are.

    Effects are in trait units: one unit changes a trait by about a tenth, and cells of one well
    differ by about one unit.
    """

    sites: int = Field(2, ge=1, le=99, description="Fields a well.")
    size_px: int = Field(160, ge=64, le=2048, description="A field's side in pixels.")
    pixel_size_um: float = Field(1.3, gt=0, description="A pixel's side; cells are drawn for 1.3.")
    cells: float = Field(36.0, gt=0, description="Cells in 160 x 160 pixels, on average.")
    pathway_effect: float = Field(1.6, ge=0, description="Length of a pathway's trait vector.")
    gene_effect: float = Field(0.7, ge=0, description="A gene's own deviation from its pathway.")
    guide_effect: float = Field(1.0, ge=0, description="A guide's own deviation, off-target.")


class Nuisances(Section):
    """What hides the truth: strengths in trait units, and bad fields a plate by number."""

    proximity_bias: float = Field(0.75, ge=0, description="Trait vector shared by an arm's genes.")
    well: float = Field(0.3, ge=0, description="Well-to-well spread of every trait.")
    batch: float = Field(1.0, ge=0, description="Shift of all traits and gains by batch.")
    plate: float = Field(0.5, ge=0, description="Shift of traits, gains and background by plate.")
    illumination: float = Field(0.15, ge=0, le=1, description="Fall-off towards a field's corners.")
    edge: float = Field(1.0, ge=0, description="Shift of the wells at the plate's edge.")
    out_of_focus: int = Field(4, ge=0, description="Blurred fields a plate.")
    saturated: int = Field(3, ge=0, description="Overexposed fields a plate.")
    missing_sites: int = Field(1, ge=0, description="Fields without any file, a plate.")
    missing_files: int = Field(1, ge=0, description="Fields that lack one channel, a plate.")
    truncated: int = Field(1, ge=0, description="Files cut short, a plate.")
