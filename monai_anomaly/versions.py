"""Where and with what a number was computed: it stands beside every figure."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from . import __version__

__all__ = ["device_name", "versions"]


def versions() -> dict[str, str]:
    """Versions of everything that can change a number.

    Example:
        >>> "torch" in versions()
        True
    """
    found = {"monai_anomaly": __version__, "python": platform.python_version()}
    for package in (
        "torch",
        "torchvision",
        "monai",
        "pytorch-ignite",
        "numpy",
        "scipy",
        "scikit-learn",
        "scikit-image",
        "pydicom",
        "highdicom",
        "itk",
        "nibabel",
    ):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def device_name(device: str | torch.device) -> str:
    """The GPU's name, or how many threads of the CPU there are: sums in another number of parts differ in their last digits.

    Args:
        device: where something is computed.

    Example:
        >>> device_name("cpu").startswith("CPU, ")
        True
    """
    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
