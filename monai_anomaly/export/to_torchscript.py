"""TorchScript: one ``.ts`` file for libtorch, MONAI and Triton."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from monai.data import load_net_with_metadata, save_net_with_metadata
from torch import Tensor

from .module import ExportedDetector

__all__ = ["USAGE", "TorchScriptFile", "write"]

USAGE = "net = torch.jit.load({file!r}); anomaly_map, score = net(image)"


def write(module: ExportedDetector, metadata: dict[str, Any], path: Path) -> None:
    """Trace, freeze (which folds batch normalisation into the convolutions) and save with MONAI's ``metadata.json``.

    Args:
        module: what to export.
        metadata: its description.
        path: the file.
    """
    saved = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch would have torch.export instead, which other programs do not read
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]  # height and width become constants, as they are meant to
        with torch.no_grad():
            traced = torch.jit.trace(module, torch.zeros(2, 3, module.image_size, module.image_size), check_trace=False)
        save_net_with_metadata(torch.jit.freeze(traced), saved, include_config_vals=False, meta_values=metadata)
    with zipfile.ZipFile(saved) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as cleaned:
        for entry in archive.infolist():
            # These say where on this machine the sources lie, for messages of errors.
            if not entry.filename.endswith(".debug_pkl"):
                cleaned.writestr(entry, archive.read(entry))


class TorchScriptFile:
    """A ``.ts`` file, opened.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.net, self.metadata, _ = load_net_with_metadata(str(path), map_location=torch.device("cpu"))

    @torch.no_grad()
    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map and score."""
        anomaly_map, score = self.net(image)
        return anomaly_map, score
