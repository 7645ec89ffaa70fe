"""The formats that a detector can be exported to."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from ..errors import OptionError
from . import to_onnx, to_openvino, to_torchscript
from .module import ExportedDetector

__all__ = ["FORMATS", "Format", "Runner", "choose_format", "open_exported"]


class Runner(Protocol):
    """An exported file, opened in the runtime that it is made for."""

    metadata: dict[str, Any]
    """What :func:`monai_anomaly.export.describe.describe` said when it was written."""

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(B, 3, H, W)`` to map ``(B, 1, H, W)`` and score ``(B,)``, as any program that reads the file would."""
        ...


class Format(NamedTuple):
    """One format."""

    suffix: str
    """Of the file; the first one, where there are two."""
    others: tuple[str, ...]
    """Suffixes of the files that go with it."""
    packages: tuple[str, ...]
    """What has to be installed to write and run it."""
    write: Callable[[ExportedDetector, dict[str, Any], Path], None]
    """Write the module with its description."""
    run: Callable[[Path], Runner]
    """Open a file."""
    usage: str
    """How the file is used, in a line or two of Python."""

    def files(self, path: Path) -> list[Path]:
        """All files of an export to ``path``."""
        return [path, *(path.with_suffix(suffix) for suffix in self.others)]


FORMATS = {
    "torchscript": Format(".ts", (), (), to_torchscript.write, to_torchscript.TorchScriptFile, to_torchscript.USAGE),
    "onnx": Format(".onnx", (), ("onnx", "onnxscript", "onnxruntime"), to_onnx.write, to_onnx.OnnxFile, to_onnx.USAGE),
    "openvino": Format(".xml", (".bin",), ("onnx", "onnxscript", "openvino"), to_openvino.write, to_openvino.OpenVinoFile, to_openvino.USAGE),
}  # fmt: skip
"""By name."""


def choose_format(name: str, path: Path) -> Format:
    """The format of this name, when it can be written to ``path`` on this machine.

    Raises:
        OptionError: no such format, a file name that is not the format's, or a package that is missing.
    """
    if name not in FORMATS:
        raise OptionError(f"There is no format {name!r}; expected one of {', '.join(FORMATS)}.")
    chosen = FORMATS[name]
    if path.suffix != chosen.suffix:
        raise OptionError(
            f"{path.name} ends in {path.suffix or 'nothing'}; expected {chosen.suffix} for the format {name}: name another file."
        )
    missing = [package for package in chosen.packages if find_spec(package) is None]
    if missing:
        raise OptionError(
            f"The format {name} needs {' and '.join(missing)}, not installed here; expected {', '.join(chosen.packages)}: "
            f"pip install -c constraints.txt {' '.join(missing)}, or all formats with pip install 'monai_anomaly[export]'."
        )
    return chosen


def open_exported(path: str | Path) -> Runner:
    """Open an exported file by its suffix, in its own runtime on the CPU. It holds code: open only files that you trust.

    Raises:
        OptionError: not the suffix of a format.
    """
    path = Path(path)
    for chosen in FORMATS.values():
        if path.suffix == chosen.suffix:
            return chosen.run(path)
    raise OptionError(f"{path.name} is of no exported format; expected one of {', '.join(f.suffix for f in FORMATS.values())}.")
