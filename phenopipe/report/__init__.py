"""The map's report: one self-contained HTML page, made from what the lake holds."""

from phenopipe.report.page import write_report
from phenopipe.report.summary import summarise_map

__all__ = ["summarise_map", "write_report"]
