"""Maps and pictures onto disk: heat maps as PNG, series on their own grid as NIfTI, findings as a table."""

from .colours import OUTLINE, ColourScale, binary_mask, rgb_image
from .findings import FINDING_COLUMNS, SaveFindings
from .heatmap import caption, write_heatmap
from .save_heatmaps import SaveHeatmaps
from .series import AssembleSeries, SeriesWriter
from .series_map import MapGrid, SeriesMap
from .volume import SaveVolumes, read_map_volume, write_map_volume

__all__ = [
    "FINDING_COLUMNS",
    "OUTLINE",
    "AssembleSeries",
    "ColourScale",
    "MapGrid",
    "SaveFindings",
    "SaveHeatmaps",
    "SaveVolumes",
    "SeriesMap",
    "SeriesWriter",
    "binary_mask",
    "caption",
    "read_map_volume",
    "rgb_image",
    "write_heatmap",
    "write_map_volume",
]
