"""Pictures and pages for people."""

from .contact_sheet import Tile, write_contact_sheet
from .save_sheet import SaveContactSheet
from .tensorboard import TensorBoardMaps

__all__ = ["SaveContactSheet", "TensorBoardMaps", "Tile", "write_contact_sheet"]
