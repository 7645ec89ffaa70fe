"""The one place that imports torchvision: ``from monai_anomaly._torchvision import torchvision``.

torchvision's ordinary wheel is built against CUDA. Beside a CPU-only torch (or one of another version) its C++ library fails to load,
silently, and the import then dies with ``operator torchvision::nms does not exist``, although models, weight enums and transforms need none
of its operators. Only in that case the two missing operator schemas are declared and the import is repeated; on a working build nothing
happens. Detection operators and image reading stay unusable then. The clean cure is the wheel that pairs with the torch at hand;
``constraints.txt`` names the tested pair.

Example:
    >>> from monai_anomaly._torchvision import torchvision
    >>> torchvision.models.get_model_weights("resnet18")["IMAGENET1K_V1"].name
    'IMAGENET1K_V1'
"""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType
from typing import TYPE_CHECKING

import torch

from .errors import AnomalyError

__all__ = ["stands_in", "torchvision"]

_library: torch.library.Library | None = None  # the schemas live only as long as this object


def _import_torchvision() -> ModuleType:
    """Import torchvision, with its two import-time operator schemas declared where its own library could not do it.

    Raises:
        AnomalyError: torchvision is not installed, or does not fit the installed torch.
    """
    global _library
    try:
        return importlib.import_module("torchvision")
    except ImportError as error:
        raise AnomalyError(
            f"torchvision, which defines the teacher networks, cannot be imported beside torch {torch.__version__} ({error}); expected the "
            "torchvision release that pairs with this torch: run `pip install -c constraints.txt torchvision`, or see constraints.txt for the pairs."
        ) from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:  # half imported
        del sys.modules[name]
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        _library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    with warnings.catch_warnings():  # older releases warn that images cannot be read, which nothing here does
        warnings.filterwarnings("ignore", message="Failed to load image Python extension")
        return importlib.import_module("torchvision")


if TYPE_CHECKING:
    import torchvision
else:
    torchvision = _import_torchvision()

stands_in: bool = _library is not None
"""Whether the schemas declared here stand in for torchvision's own library, which does not fit this torch."""
