"""What every bundle's JSON calls: which profile it runs, what it checks, and what follows training.

Import it in a config as ``$import monai_anomaly.bundle as mab``.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

from .bundle_root import check_output, root
from .command_line import begin
from .data import Case, CaseList, case_patient, is_builtin_study
from .errors import CalibrationError, DataError, OptionError
from .scoring import Calibration
from .training import read_model_description

__all__ = [
    "announce",
    "begin",
    "cases_to_score",
    "check_cases",
    "check_output",
    "check_rate",
    "evaluate_trained",
    "refuse_flags",
    "root",
    "weights_fallback",
]

logger = logging.getLogger(__name__)


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


def refuse_flags(system: str, **flags: Any) -> None:
    """Refuse flags of the bundle that a system put in by an overlay config does not have: they would change nothing.

    Args:
        system: its name.
        flags: those flags; the overlay makes them ``None``.

    Raises:
        OptionError: one has another value.

    Example:
        >>> refuse_flags("TraditionalKD", skips=1)
        Traceback (most recent call last):
        ...
        monai_anomaly.errors.OptionError: TraditionalKD has no skips (1 is given); expected a run without it: leave --skips out.
    """
    for name, value in flags.items():
        if value is not None:
            raise OptionError(f"{system} has no {name} ({value} is given); expected a run without it: leave --{name} out.")


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
    patients = {case_patient(case) for case in held_out}
    if not patients:
        raise CalibrationError(
            f"A false-alarm rate of {rate:g} was asked for, but no patients are held out: set calibration_fraction above 0."
        )
    # The scores themselves do not matter: their number decides what can be promised.
    Calibration([0.0] * len(patients)).threshold(rate)


def check_cases(trained: Sequence[Case], recorded: Sequence[Case]) -> None:
    """Refuse training cases that were put in from outside: record, held-out patients and calibration would be of others.

    Args:
        trained: the cases of the training data set.
        recorded: those that the run's record is about.

    Raises:
        OptionError: they are not the same.

    Example:
        >>> check_cases([{"image": "a.nii.gz"}], [{"image": "a.nii.gz"}])
    """
    if list(trained) != list(recorded):
        raise OptionError(
            f"The training data were replaced by {len(trained)} other cases, while record and calibration are of {len(recorded)} in the data set; expected "
            "its own: name another with --dataset_dir. MONAI Label's app monaibundle cannot train these bundles, for it hands in what was labelled: use "
            "apps/anomaly."
        )


def cases_to_score(cases: CaseList) -> list[Case]:
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
    bundle_root: str,
    output_dir: str | Path,
    device: torch.device,
    cases: CaseList,
    complete: bool,
    **overrides: Any,
) -> None:
    """Run the bundle's ``evaluate.json`` on the model of a training, where the data set has labelled test cases.

    Args:
        bundle_root: folder of the bundle.
        output_dir: folder of the training, with ``model.pt``; results go to ``evaluation/`` in it.
        device: where to score.
        cases: what was found in the training's data set, which is not searched again.
        complete: whether the model was there before. If its evaluation is there, too, it stays; one that was interrupted is done again.
        overrides: further top-level keys of ``evaluate.json``.
    """
    if not any("label" in case for case in cases.select(split="test")):
        logger.info("The data set has no labelled test cases: nothing to evaluate. Score new scans with inference.json.")
        return
    model, evaluation = Path(output_dir) / "model.pt", Path(output_dir) / "evaluation"
    if complete and _is_evaluated(model, evaluation / "metrics.json"):
        logger.info("Its evaluation is complete, too: %s", evaluation)
        return
    with contextlib.suppress(OSError):  # from here on the folder holds no complete evaluation
        (evaluation / "metrics.json").unlink()
    workflow = ConfigWorkflow(
        config_file=str(Path(bundle_root) / "evaluate.json"),
        meta_file=str(Path(bundle_root) / "metadata.json"),
        logging_file=False,
        workflow_type="infer",
        bundle_root=str(bundle_root),
        cases=cases,
        model=str(model),
        output_dir=str(evaluation),
        device=device,
        **overrides,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def _is_evaluated(model: Path, metrics: Path) -> bool:
    """Whether metrics, which an evaluation writes last, are of this very model: made with the same settings, data and epochs."""
    try:
        told = json.loads(metrics.read_text("utf-8"))["provenance"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return bool(told == read_model_description(model)["provenance"])
