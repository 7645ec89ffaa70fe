"""What every bundle's JSON calls: where it lives, which profile it runs, and what follows training.

Import it in a config as ``$import monai_anomaly.bundle as mab``.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import monai.bundle
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from .data import Case, CaseList, builtin_study, is_builtin_study
from .errors import AnomalyError, CalibrationError, DataError, OptionError
from .scoring import Calibration

__all__ = ["announce", "begin", "builtin_study", "check_rate", "evaluate_trained", "root", "test_cases", "weights_fallback"]

logger = logging.getLogger(__name__)


def root(name: str) -> str:
    """The folder of a bundle, whatever the working directory: beside the package in a source checkout, otherwise ``bundles/<name>`` in it.

    Args:
        name: the bundle's folder name, such as ``"skipts"``.
    """
    beside_package = Path(__file__).parents[1] / "bundles" / name
    return str(beside_package if beside_package.is_dir() else Path.cwd() / "bundles" / name)


def begin() -> None:
    """Make a run on the command line speak plainly: one sentence instead of a traceback through MONAI when the toolkit refuses something."""
    warnings.filterwarnings(
        "ignore", message="NvImgCodecPydicomReader"
    )  # an optional GPU decoder that LoadImage looks for and nobody asked for
    sys.excepthook = _report
    _refuse_unknown_flags(sys.argv)


def _refuse_unknown_flags(arguments: Sequence[str]) -> None:
    """MONAI adds a flag that the config does not have, silently; a mistyped one would then change nothing."""
    given = {}
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            given[name.replace("::", "#").split("#")[0]] = value or following
    config = given.get("config_file", "")
    if not config.endswith(".json") or config.startswith("["):
        return  # not a run of one of our configs on the command line
    known = {*ConfigParser.load_config_file(config), *inspect.signature(monai.bundle.run).parameters}
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise OptionError(
                f"{Path(config).name} has no flag --{name}"
                + (f"; did you mean --{near[0]}?" if near else "; its flags stand in docs/README.md.")
            )


def _report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, AnomalyError):
        inner = inner.__cause__ or inner.__context__
    if inner is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        logger.error("%s", inner)


def weights_fallback(dataset_dir: str | Path) -> str | None:
    """What a teacher without weights may fall back to: random ones on the built-in study, nothing on anybody's own data."""
    return "random" if is_builtin_study(dataset_dir) else None


def announce(settings: dict[str, Any], device: torch.device) -> None:
    """Log which profile runs and why.

    Args:
        settings: the bundle's flags with the values in use.
        device: where it trains.
    """
    device = torch.device(device)
    if device.type == "cuda":
        profile, why = "the paper's recipe", f"a GPU is there ({torch.cuda.get_device_name(device)})"
    else:
        profile, why = "the small CPU profile", f"no GPU is used ({torch.get_num_threads()} CPU threads)"
    flags = ", ".join(f"{name} {settings[name]}" for name in ("backbone", "image_size", "epochs", "batch_size", "lr", "seed"))
    logger.info("Defaults are those of %s because %s. In use: %s.", profile, why, flags)
    if is_builtin_study(settings["dataset_dir"]):
        logger.info("Data: the built-in, made-up head CT study at %s; name your own with --dataset_dir.", settings["dataset_dir"])


def check_rate(rate: float | None, held_out: Sequence[Case]) -> None:
    """Refuse, before the training and not after it, a false-alarm rate that the held-out patients cannot promise.

    Args:
        rate: the rate asked for, or ``None``.
        held_out: the cases kept for calibration.

    Raises:
        CalibrationError: there are too few held-out patients, or none.
    """
    if rate is None:
        return
    patients = {case.get("patient", case["series"]) for case in held_out}
    if not patients:
        raise CalibrationError(
            f"A false-alarm rate of {rate:g} was asked for, but no patients are held out: set calibration_fraction above 0."
        )
    # The scores themselves do not matter: their number decides what can be promised.
    Calibration([0.0] * len(patients)).threshold(rate)


def test_cases(cases: CaseList) -> list[Case]:
    """The cases to score.

    Raises:
        DataError: there are none.
    """
    found = cases.select(split="test")
    if not found:
        raise DataError(
            f"There is nothing to score in {cases.root}: expected test/good and test/<class>, a datalist with 'testing', or plain images."
        )
    return found


def evaluate_trained(
    bundle_root: str, dataset_dir: str | Path, output_dir: str | Path, device: torch.device, cases: CaseList, **overrides: Any
) -> None:
    """Run the bundle's ``evaluate.json`` on the model just written, where the data set has labelled test cases.

    Args:
        bundle_root: folder of the bundle.
        dataset_dir: the data set of the training.
        output_dir: folder of the training, with ``model.pt``; results go to ``evaluation/`` in it.
        device: where to score.
        cases: what was found in the data set.
        overrides: further top-level keys of ``evaluate.json``.
    """
    if not any("label" in case for case in cases.select(split="test")):
        logger.info("The data set has no labelled test cases: nothing to evaluate. Score new scans with inference.json.")
        return
    workflow = ConfigWorkflow(
        config_file=str(Path(bundle_root) / "evaluate.json"),
        meta_file=str(Path(bundle_root) / "metadata.json"),
        logging_file=False,
        workflow_type="infer",
        dataset_dir=str(dataset_dir),
        model=str(Path(output_dir) / "model.pt"),
        output_dir=str(Path(output_dir) / "evaluation"),
        device=device,
        **overrides,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
