"""Maps and pictures onto disk: heat maps as PNG, series on their own grid as NIfTI."""

from .colours import ColourScale, binary_mask, contour, rgb_image
from .heatmap import caption, write_heatmap
from .saving import SaveHeatmaps, SaveVolumes
from .volume import write_map_volume

__all__ = [
    "ColourScale",
    "SaveHeatmaps",
    "SaveVolumes",
    "binary_mask",
    "caption",
    "contour",
    "rgb_image",
    "write_heatmap",
    "write_map_volume",
]
