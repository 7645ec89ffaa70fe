"""ONNX: one ``.onnx`` file for ONNX Runtime, TensorRT and whatever else reads it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .describe import METADATA
from .module import INPUT, OUTPUTS, ExportedDetector

__all__ = ["USAGE", "OnnxFile", "write"]

USAGE = "session = onnxruntime.InferenceSession({file!r}); anomaly_map, score = session.run(None, {{'image': image}})"

_OPSET = 18


def write(module: ExportedDetector, metadata: dict[str, Any], path: Path) -> None:
    """Export with torch's own exporter, batch normalisation folded in, the batch dynamic.

    Args:
        module: what to export.
        metadata: its description, kept in ``metadata_props``.
        path: the file.
    """
    import onnx

    image = torch.zeros(2, 3, module.image_size, module.image_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # between torch and its own libraries
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            module, (image,), dynamo=True, opset_version=_OPSET, input_names=[INPUT], output_names=list(OUTPUTS),
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}}, verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    # What helps to debug the exporter names source files on this machine.
    for entry in (
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.value_info,
        *model.graph.initializer,
        model.graph,
    ):
        del entry.metadata_props[:]
    del model.metadata_props[:]
    model.metadata_props.add(key=METADATA, value=json.dumps(metadata, allow_nan=False))
    onnx.save(model, str(path))


class OnnxFile:
    """An ``.onnx`` file, opened in ONNX Runtime.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.metadata: dict[str, Any] = json.loads(self.session.get_modelmeta().custom_metadata_map[METADATA])

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map and score."""
        anomaly_map, score = self.session.run(list(OUTPUTS), {INPUT: image.contiguous().numpy()})
        return torch.from_numpy(anomaly_map), torch.from_numpy(score)
