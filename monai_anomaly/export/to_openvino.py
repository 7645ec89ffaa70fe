"""OpenVINO: an ``.xml`` file with its ``.bin`` of weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import to_onnx
from .describe import METADATA
from .module import INPUT, OUTPUTS, ExportedDetector

__all__ = ["FLOAT32", "USAGE", "OpenVinoFile", "write"]

FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}
"""On a CPU with bfloat16 instructions OpenVINO computes in bfloat16 unless it is told not to."""

USAGE = (
    "net = openvino.Core().compile_model({file!r}, 'CPU', {{'INFERENCE_PRECISION_HINT': 'f32'}}); result = net(image); result['map'], result['score']\n"
    "Without that hint a CPU with bfloat16 instructions computes in bfloat16, and what was compared here does not hold."
)


def write(module: ExportedDetector, metadata: dict[str, Any], path: Path) -> None:
    """Convert the ONNX export; weights stay float32.

    OpenVINO's reader is used, not its converter, which reports each use to its makers.

    Args:
        module: what to export.
        metadata: its description, kept in ``rt_info``.
        path: the ``.xml`` file; the ``.bin`` goes beside it.
    """
    import openvino

    onnx = path.with_suffix(".onnx")
    to_onnx.write(module, metadata, onnx)
    try:
        model = openvino.Core().read_model(str(onnx))
        model.set_rt_info(json.dumps(metadata, allow_nan=False), [METADATA])
        openvino.save_model(model, str(path), compress_to_fp16=False)
    finally:
        onnx.unlink()


class OpenVinoFile:
    """An ``.xml`` file, opened and compiled for this CPU in float32.

    Args:
        path: the file.
        precision: OpenVINO's hint, such as :data:`FLOAT32`.
    """

    def __init__(self, path: Path, precision: dict[str, str] = FLOAT32):
        import openvino

        core = openvino.Core()
        model = core.read_model(str(path))
        self.metadata: dict[str, Any] = json.loads(model.get_rt_info([METADATA]).value)
        self.net = core.compile_model(model, "CPU", {**precision, "INFERENCE_NUM_THREADS": str(torch.get_num_threads())})

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map and score."""
        result = self.net({INPUT: image.contiguous().numpy()})
        anomaly_map, score = (torch.from_numpy(result[name].copy()) for name in OUTPUTS)
        return anomaly_map, score
