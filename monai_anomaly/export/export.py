"""From ``model.pt`` to a file for another runtime, or to a sentence that says why not."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError, ExportError
from ..files import refuse_existing, write_whole
from ..training import load_detector
from .describe import describe
from .formats import choose_format
from .held_out import held_out_slices, training_data
from .module import ExportedDetector
from .parity import Parity, compare

__all__ = ["Exported", "export_detector"]


class Exported(NamedTuple):
    """What was written."""

    files: tuple[Path, ...]
    parity: Parity
    usage: str
    """How to use it, in Python."""


def export_detector(
    model: str | Path, format_name: str, out: str | Path, dataset_dir: str | Path | None = None, force: bool = False
) -> Exported:
    """Export the whole detector, image in, map and score out, if what was written agrees with the model.

    The file is written beside ``out`` under a temporary name, read back in its own runtime, and compared with PyTorch on every slice that the training held
    out: no pixel of a map may differ by more than :data:`~monai_anomaly.export.MAP_TOLERANCE`, and each slice must have the same p-value
    (:func:`~monai_anomaly.export.parity.leave_one_out_p_values`). Only then it takes its name. Otherwise nothing is left, and a file that was there stays.

    Args:
        model: a ``model.pt`` that training wrote, with held-out normal scans.
        format_name: ``"torchscript"``, ``"onnx"`` or ``"openvino"``.
        out: the file to write, with the format's suffix (``.ts``, ``.onnx``, ``.xml``); the ``.bin`` of an ``.xml`` goes beside it.
        dataset_dir: the data set of the training; not needed for the built-in study.
        force: replace files that exist.

    Returns:
        The files, and what was measured.

    Raises:
        OptionError: another format or suffix, a file that exists, a missing package, no held-out normal scans.
        CheckpointError: the model cannot be read.
        DataError: not the data set of the training, or a folder that cannot be written.
        ExportError: the file could not be made, or does not agree with the model.

    Example:
        >>> export_detector("models/model.pt", "onnx", "detector.onnx").parity.map_difference  # doctest: +SKIP
        4.7e-07
    """
    out = Path(out)
    chosen = choose_format(format_name, out)
    for path in chosen.files(out):
        refuse_existing(path, force)
    detector = load_detector(model)
    slices = held_out_slices(detector, training_data(detector) if dataset_dir is None else dataset_dir)
    metadata = describe(detector, model)
    with _beside(out) as folder:
        trial = Path(folder) / out.name
        try:
            chosen.write(ExportedDetector(detector), metadata, trial)
            runner = chosen.run(trial)
            told = runner.metadata
        except Exception as error:  # each exporter and runtime has a family of errors of its own
            raise ExportError(
                f"The format {format_name} could not be made and read back ({type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}); "
                "expected a file: no file was written. Export in another format, or with the versions in constraints.txt."
            ) from error
        if told != metadata:
            raise ExportError(
                f"The description read back from the {format_name} file is not the one written into it: no file was written. "
                "Export in another format, or with the versions in constraints.txt."
            )
        parity = compare(detector, runner, slices)
        parity.check()
        del runner  # Windows keeps an open file
        _publish(chosen.files(trial), chosen.files(out))
    return Exported(tuple(chosen.files(out)), parity, chosen.usage.format(file=out.name))


def _beside(out: Path) -> tempfile.TemporaryDirectory[str]:
    """On the same disk as the result: where that cannot be written, it shows before minutes of work and not after."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=f".{out.stem[:50]}.", dir=out.parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise DataError(
            f"{out.parent} cannot be written ({error.strerror or error}); expected a folder with free space: choose another."
        ) from error


def _publish(trial: list[Path], final: list[Path]) -> None:
    """The file that is opened goes first and comes last: killed in between, an export is absent, never made of two halves that do not belong together."""
    if len(final) > 1:
        final[0].unlink(missing_ok=True)
    for source, target in reversed(list(zip(trial, final, strict=True))):
        write_whole(target, source.read_bytes())
