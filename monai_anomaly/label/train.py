"""Training on the studies that were marked normal; the model that comes out answers the next request."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ignite.engine import Events
from monai.bundle import ConfigParser, ConfigWorkflow
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.tasks.train import TrainTask

from ..command_line import begin
from ..data import Case, find_cases, write_datalist
from ..errors import AnomalyError, DataError, OptionError, unwrapped
from ..files import write_whole
from ..networks.weights import RANDOM
from .models import MODEL, ServedModel
from .normal import NORMAL, is_empty_mask
from .record import SharedRecord
from .refusals import RequestError, answering

__all__ = ["FEWEST_PATIENTS", "TrainOnNormals"]

logger = logging.getLogger(__name__)

FEWEST_PATIENTS = 10
"""Of which two are held out: their threshold promises a false-alarm rate of one in three. For 5 % it takes 95 patients, 19 of them held out."""
SHOWN = ("epochs", "image_size", "ct_window", "batch_size")
"""Flags that viewers offer for editing; a request may hold any flag among the settings of the bundle's train.json."""
OWN = ("dataset_dir",)
"""The server's own affair, and a path on it."""
TEACHER = "teacher_weights"
"""The one flag of a request that may be a path: as a name from a client, as a file only from ``--conf``."""
PATIENCE_S = 5.0
"""How long to wait for a training that is just ending, and for who only looks whether one runs."""
OF_THE_SERVER = {"model", "device", "gpus", "multi_gpu", "local_rank", "bundle_path", "client_id", "name"}
"""What MONAI Label and its viewers put into a request for reasons of their own."""


class TrainOnNormals(TrainTask):
    """Run the bundle's own ``train.json`` on the studies whose info says ``{"normal": true}``.

    A final label in which nothing is marked writes that into the info, too. Studies with a final label that marks something are never trained on, whatever
    the info says. Several files of one patient should carry the same ``patient`` in their info, where they do not say it themselves as DICOM does.

    Each set of studies and flags has a run folder of its own below the app's ``model/<name>/runs``, in which the same request goes on after an interruption.
    The finished model is put in place in one step, and older runs are removed. One training of a model runs at a time.

    Args:
        served: the model.
        teacher: weights for the teacher, a name or a file, unless the request names others; default: those of train.json.
    """

    def __init__(self, served: ServedModel, teacher: str | None = None):
        super().__init__(f"{served.name}: trains on the studies that are marked normal")
        self.served, self.teacher = served, teacher
        config = ConfigParser(ConfigParser.load_config_file(served.bundle_root / "train.json"))
        self._flags = {*config["settings"]} - {*OWN}
        # What is computed from the data, as SCRD4AD's epochs are, has no value before they are known.
        self._shown = {name: config.get_parsed_content(name) for name in SHOWN if not isinstance(config[name], dict)}
        self._progress, self._lock = served.folder / "progress.json", served.folder / ".training"

    def config(self) -> dict[str, Any]:
        """What viewers offer for editing."""
        return dict(self._shown)

    def stats(self) -> dict[str, Any]:
        """What is known of the training that runs, or else of that of the server's own model. Viewers read ``epoch``, ``total_epochs``, ``total_time``."""
        try:
            if self._runs():
                return {"status": "training", **json.loads(self._progress.read_text("utf-8"))}
            run = json.loads((self.served.folder / "run.json").read_text("utf-8"))
            data, epochs = run["data"], run["epochs"]
            settings = {name: value for name, value in run["settings"].items() if name not in OWN}
            settings[TEACHER] = Path(str(settings.get(TEACHER))).name
            return {
                "status": run["status"], "epoch": len(epochs), "total_epochs": settings["epochs"],
                "total_time": str(timedelta(seconds=round(run["wall_time_s"]))),
                "loss": epochs[-1]["loss"] if epochs else None, "settings": settings, "patients": data["train"]["patients"],
                "slices": data["train"]["slices"], "held_out_patients": data["calibration"]["patients"],
            }  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}

    def __call__(self, request: Mapping[str, Any], datastore: SharedRecord) -> dict[str, Any]:
        """Train.

        Args:
            request: flags of train.json, such as ``{"epochs": 20, "image_size": 256}``.
            datastore: the studies.

        Returns:
            What :meth:`stats` says.

        Raises:
            RequestError: too few studies are marked, they cannot be trained on, or the model is being trained already; with the reason.
        """
        begin()  # in a process of its own an error ends in one sentence, which the status of the training shows
        with answering(), self._alone():
            flags = self._given(request)
            cases = self._normals(datastore)
            self._check(cases)
            folder = self.served.folder / "runs" / _digest(cases, flags)
            with unwrapped():
                self._train(write_datalist(folder / "datalist.json", cases), folder, flags)
            self._publish(folder)
        return self.stats()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """MONAI Label keeps jobs in the background apart, but not those that a client waits for (``run_sync``), nor those of a second server on this app."""
        self.served.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock)
        try:
            lock.acquire(timeout=PATIENCE_S)
        except Timeout:
            raise RequestError(
                f"The model {self.served.name} is being trained already; expected one training of it at a time: ask again when GET /train/ says that it has "
                "ended, or end it with DELETE /train/.",
                409,
            ) from None
        try:
            self._tell({"epoch": 0})
            yield
        finally:
            self._progress.unlink(missing_ok=True)
            lock.release()

    def _runs(self) -> bool:
        """Whether some process trains this model now; a killed one has let go."""
        try:
            with FileLock(self._lock).acquire(timeout=0):
                return False
        except Timeout:
            return True

    def _tell(self, progress: Mapping[str, int]) -> None:
        write_whole(self._progress, json.dumps(progress).encode())

    def _given(self, request: Mapping[str, Any]) -> dict[str, Any]:
        unknown = sorted({*request} - self._flags - OF_THE_SERVER)
        if unknown:
            logger.warning("The request's %s is no flag of %s/train.json and changes nothing.", ", ".join(unknown), self.served.name)
        flags = {name: request[name] for name in sorted(self._flags & {*request})}
        for name, value in flags.items():
            if not _is_plain(value):
                raise OptionError(
                    f"{name} is {str(value)[:100]!r}; expected a number, a list of numbers or a word: expressions are not taken from a client."
                )
        weights = flags.get(TEACHER, RANDOM)
        if not isinstance(weights, str) or not re.fullmatch(r"[A-Z0-9_]+|random", weights):
            raise OptionError(
                f"{TEACHER} is {str(weights)[:100]!r}; expected the name of weights, such as IMAGENET1K_V1, or random: a file is named by whoever starts the "
                f"server, --conf {TEACHER} FILE."
            )
        return flags if self.teacher is None else {TEACHER: self.teacher, **flags}

    def _normals(self, datastore: SharedRecord) -> list[Case]:
        cases: list[Case] = []
        for study in sorted(datastore.list_images()):
            info = datastore.get_image_info(study)
            if info.get(NORMAL) is not True:
                continue
            if _is_marked(datastore, study):
                logger.warning("A study is marked normal, but something is marked in its final label: it is not trained on.")
                continue
            try:
                case: Case = {"image": datastore.source(study), "label": 0, "split": "train"}
            except RequestError as error:
                if error.status >= 500:
                    raise
                logger.warning("A study is marked normal, but cannot be had: it is not trained on. %s", error)
                continue
            if isinstance(info.get("patient"), str):
                case["patient"] = info["patient"]
            cases.append(case)
        return cases

    def _check(self, cases: list[Case]) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            patients = (
                {case["patient"] for case in find_cases(write_datalist(Path(scratch) / "datalist.json", cases)).cases} if cases else set()
            )
        if len(patients) < FEWEST_PATIENTS:
            raise DataError(
                f"{len(cases)} studies are marked normal, of {len(patients)} patients that can be read; expected at least {FEWEST_PATIENTS} patients, some of "
                'whom are held out for the threshold: mark more with PUT /datastore/image/info?image=ID and info={"normal": true}, or save final labels '
                "in which nothing is marked."
            )

    def _train(self, datalist: Path, folder: Path, flags: Mapping[str, Any]) -> None:
        logger.info("Training %s in %s", self.served.name, folder)
        root = self.served.bundle_root
        workflow = ConfigWorkflow(
            config_file=str(root / "train.json"), meta_file=str(root / "metadata.json"), logging_file=False, workflow_type="train",
            bundle_root=str(root), dataset_dir=str(datalist), output_dir=str(folder), **flags,
        )  # fmt: skip
        workflow.initialize()
        trainer = workflow.parser.get_parsed_content("train#trainer")
        trainer.add_event_handler(
            Events.STARTED | Events.EPOCH_COMPLETED,
            lambda engine: self._tell({"epoch": engine.state.epoch, "total_epochs": engine.state.max_epochs}),
        )
        workflow.run()
        workflow.finalize()

    def _publish(self, folder: Path) -> None:
        """The model last: whoever sees it finds its record."""
        for name in ("run.json", MODEL):
            with (folder / name).open("rb") as source:
                write_whole(self.served.folder / name, lambda target, source=source: shutil.copyfileobj(source, target))  # type: ignore[misc]
        logger.info("%s is trained: it answers the next request.", self.served.name)
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)


def _is_marked(datastore: SharedRecord, study: str) -> bool:
    """Whether the final label of a study, if there is one, marks something; one that cannot be read counts as if it did."""
    label = datastore.get_labels_by_image_id(study).get(DefaultLabelTag.FINAL)
    if not label:
        return False
    try:
        return not is_empty_mask(datastore.get_label_uri(label, DefaultLabelTag.FINAL))
    except AnomalyError:
        return True


def _is_plain(value: Any) -> bool:
    """No text that MONAI's configs would run as Python or look up, and nothing that they would build an object from."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return (
        value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and not value.strip().startswith(("$", "@", "%")))
    )


def _digest(cases: list[Case], flags: Mapping[str, Any]) -> str:
    """Names the run: the same studies and flags go on where they were. More epochs are the same run, too."""
    told = {"cases": cases, "flags": {name: value for name, value in flags.items() if name != "epochs"}}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:12]
