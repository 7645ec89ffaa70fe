"""Pictures and pages for people."""

from .contact_sheet import Tile, write_contact_sheet
from .pictures import Picture, show_pictures
from .save_sheet import SaveContactSheet
from .stack import DisplayStack, slice_picture
from .tensorboard import TensorBoardMaps

__all__ = [
    "DisplayStack",
    "Picture",
    "SaveContactSheet",
    "TensorBoardMaps",
    "Tile",
    "show_pictures",
    "slice_picture",
    "write_contact_sheet",
]
