"""Results as DICOM, beside the images in their study: the mask as Segmentation, the map as Parametric Map."""

import logging

from .algorithm import Algorithm
from .file import write_dicom
from .parametric_map import parametric_map
from .save import SaveDicom
from .segmentation import SEGMENT_LABEL, segmentation
from .source import read_sources

# It tells of every module that it copies, with the UID of the image, and of names that it finds odd.
logging.getLogger("highdicom").setLevel(logging.ERROR)

__all__ = ["SEGMENT_LABEL", "Algorithm", "SaveDicom", "parametric_map", "read_sources", "segmentation", "write_dicom"]
