"""Stop it any time: the same command line starts a run, goes on with it, or finds it complete."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from ..errors import CheckpointError, OptionError
from ..files import write_whole
from ..networks import AnomalyDetector
from ..ranks import from_rank_0
from .identity import identity_differences, identity_of_model
from .model_file import read_model_description
from .record import RunRecord
from .training_state import TrainingState, check_fits, read_training_state, write_training_state

__all__ = ["TrainingCheckpoint", "is_complete"]

logger = logging.getLogger(__name__)

CHECKPOINT, MODEL, RECORD = "checkpoint.pt", "model.pt", "run.json"


def is_complete(folder: str | Path, identity: Mapping[str, Any], detector: AnomalyDetector, epochs: int) -> bool:
    """Look at what lies in a run's folder before anything is done: is the run complete, and if not, can it start or go on there?

    Nothing that another run left is ever written over. Asked by every process, looked up by one.

    Args:
        folder: the run's ``output_dir``.
        identity: what :func:`monai_anomaly.training.identify` says of the run that is asked for.
        detector: a detector as the run's settings make it.
        epochs: number of epochs that is asked for.

    Returns:
        Whether the model of that many epochs is there already.

    Raises:
        CheckpointError: the folder holds another run, or a file that cannot be read.
        OptionError: ``epochs`` is less than what is done, or no number from 1 upwards.
        DataError: the folder cannot be written to.
    """
    return from_rank_0(lambda: _look(Path(folder), identity, detector, epochs))


def _look(folder: Path, identity: Mapping[str, Any], detector: AnomalyDetector, epochs: int) -> bool:
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise OptionError(f"epochs is {epochs!r}; expected a whole number from 1 upwards.")
    checkpoint, model = folder / CHECKPOINT, folder / MODEL
    saved, trained = 0, 0
    # Not Path.exists, which raises where a folder may not be looked into: that it cannot be written to is said below.
    if os.path.exists(checkpoint):
        saved = _read_fitting(checkpoint, identity, detector).epoch
    if os.path.exists(model):
        description = read_model_description(model)
        _refuse_another(model, identity_of_model(description), identity)
        trained = description["provenance"].get("epochs")
        if not isinstance(trained, int):
            raise CheckpointError(
                f"{model} does not say after how many epochs it was written; expected one that training wrote: move it away."
            )
    if trained == epochs and (_is_recorded(folder) or not saved):
        logger.info("The run is already complete: %s is the model of its %d epochs. Nothing is trained.", model, epochs)
        return True
    if epochs < max(saved, trained):
        raise OptionError(
            f"{max(saved, trained)} epochs are done in {folder}, but only {epochs} are asked for; expected at least as many as were done: set --epochs "
            f"{max(saved, trained)}, name another folder with --output_dir, or delete the folder. Nothing was changed."
        )
    if trained and not saved:
        raise CheckpointError(
            f"{folder} holds the model of {trained} epochs, but no {CHECKPOINT} to go on from to {epochs}; expected both: set --epochs {trained}, name "
            "another folder with --output_dir, or delete the folder to start anew. Nothing was changed."
        )
    _check_writable(folder)
    return False


def _is_recorded(folder: Path) -> bool:
    """Whether the run's record says that it is completed, which is the last thing that a training writes."""
    try:
        return bool(json.loads((folder / RECORD).read_text("utf-8"))["status"] == "completed")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _read_fitting(path: Path, identity: Mapping[str, Any], detector: AnomalyDetector) -> TrainingState:
    state = read_training_state(path)
    _refuse_another(path, state.identity, identity)
    check_fits(path, state, detector)
    return state


def _refuse_another(path: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    found = identity_differences(then, now)
    if found:
        raise CheckpointError(
            f"{path} is of another run: {'; '.join(found)}. Expected the settings, teacher and data that it was made with: give the old values, name "
            "another folder with --output_dir, or delete the folder to start anew. Nothing was changed."
        )


def _check_writable(folder: Path) -> None:
    """Now, not after the first epoch; what killed runs left half-written goes."""
    write_whole(folder / ".try_to_write", b"0").unlink()
    for name in (CHECKPOINT, MODEL, RECORD):
        for part in folder.glob(f".{name}.*.part"):
            with contextlib.suppress(OSError):
                part.unlink()


class TrainingCheckpoint:
    """Handler of the trainer: write ``checkpoint.pt`` when an epoch is over, and go on from it when a run starts.

    A run that was interrupted and goes on ends in the same weights and losses as one that was not: whatever is drawn at random is derived from the seed and
    the epoch (:class:`~monai_anomaly.training.EpochSeed`), and the rest is in the file: student with its batch statistics, optimiser, losses. With no epoch
    left only what follows training is done (statistics, calibration, ``model.pt``). The file stays when the run is complete: asked for more epochs, the run
    goes on from it, and ends as if it had been asked for them at once.

    MONAI's ``CheckpointSaver`` and ``CheckpointLoader`` neither sync to the disk nor leave the teacher out, and load what another run has left.

    Args:
        path: where to write it.
        identity: what :func:`~monai_anomaly.training.identify` says of the run.
        detector: the detector (not its DDP wrapper).
        optimizer: over its trainable parameters.
        record: the run's record, attached before; its losses are part of the checkpoint.
        interval: epochs between two writings; the last epoch is always written.

    Raises:
        OptionError: an interval that is no whole number from 1 upwards.
    """

    def __init__(
        self,
        path: str | Path,
        identity: Mapping[str, Any],
        detector: AnomalyDetector,
        optimizer: torch.optim.Optimizer,
        record: RunRecord,
        interval: int = 1,
    ):
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise OptionError(f"checkpoint_interval is {interval!r}; expected a whole number of epochs from 1 upwards.")
        self.path, self.identity, self.interval = Path(path), identity, interval
        self.detector, self.optimizer, self.record = detector, optimizer, record

    def attach(self, engine: Engine) -> None:
        """Register with the trainer, behind every other handler: what it writes is the state after all of them."""
        engine.add_event_handler(Events.STARTED, self._restore)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def _restore(self, engine: Engine) -> None:
        state = from_rank_0(self._read)
        if state is None:
            return
        if state.iteration != state.epoch * (engine.state.epoch_length or 0):
            raise CheckpointError(
                f"{self.path} was written after {state.iteration} batches in {state.epoch} epochs, but an epoch has {engine.state.epoch_length} batches now; "
                "expected the same training slices: name another folder with --output_dir, or delete the folder to start anew."
            )
        state.restore(self.detector, self.optimizer)
        self.record.load_state_dict(state.record)
        engine.state.epoch, engine.state.iteration = state.epoch, state.iteration
        logger.info("Going on after epoch %d of %s.", state.epoch, engine.state.max_epochs)

    def _read(self) -> TrainingState | None:
        return _read_fitting(self.path, self.identity, self.detector) if self.path.exists() else None

    def __call__(self, engine: Engine) -> None:
        """Write the state of the run, if it is time."""
        epoch = engine.state.epoch
        if epoch % self.interval == 0 or epoch == engine.state.max_epochs:
            # Every rank waits for the writing, and stops with the same sentence if it fails.
            from_rank_0(lambda: self._write(epoch, engine.state.iteration))

    def _write(self, epoch: int, iteration: int) -> None:
        write_training_state(
            self.path, self.detector, self.optimizer,
            epoch=epoch, iteration=iteration, identity=dict(self.identity), record=self.record.state_dict(),
        )  # fmt: skip
