"""An optional decoder on GPUs that MONAI's readers look for, and tell of at each file where it is not there; nobody asked for it."""

from __future__ import annotations

import logging
import warnings

__all__ = ["ignore_optional_decoder"]


def ignore_optional_decoder() -> None:
    """Have MONAI look for it in silence.

    Example:
        >>> ignore_optional_decoder()
    """
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
