"""Pictures and pages for people."""

from .contact_sheet import Tile, write_contact_sheet
from .pictures import Picture, show_pictures
from .save_sheet import SaveContactSheet
from .stack import DisplayStack
from .tensorboard import TensorBoardMaps

__all__ = ["DisplayStack", "Picture", "SaveContactSheet", "TensorBoardMaps", "Tile", "show_pictures", "write_contact_sheet"]
