"""Training on the studies that were marked normal; the model that comes out answers the next request."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.train import TrainTask

from ..bundle import begin
from ..data import Case, find_cases, write_datalist
from ..errors import AnomalyError, DataError, OptionError, find_anomaly_error
from ..files import write_whole
from .cache import dicom_behind
from .models import MODEL, ServedModel
from .normal import NORMAL, is_empty_mask
from .refusals import answering

__all__ = ["FEWEST_PATIENTS", "TrainOnNormals"]

logger = logging.getLogger(__name__)

FEWEST_PATIENTS = 10
"""Of which two are held out: their threshold promises a false-alarm rate of one in three. For 5 % it takes 95 patients, 19 of them held out."""
SHOWN = ("epochs", "image_size", "ct_window", "batch_size")
"""Flags that viewers offer for editing; a request may hold any flag of the bundle's train.json."""
OWN = ("dataset_dir",)
"""The server's own affair, and a path on it."""
OF_THE_SERVER = {"model", "device", "gpus", "multi_gpu", "local_rank", "bundle_path", "client_id", "name"}
"""What MONAI Label and its viewers put into a request for reasons of their own."""


class TrainOnNormals(TrainTask):
    """Run the bundle's own ``train.json`` on the studies whose info says ``{"normal": true}``.

    A final label in which nothing is marked writes that into the info, too. Studies with a final label that marks something are never trained on, whatever
    the info says. Several files of one patient should carry the same ``patient`` in their info, where they do not say it themselves as DICOM does.

    Each set of studies and flags has a run folder of its own below the app's ``model/<name>/runs``, in which the same request goes on after an interruption.
    The finished model is put in place in one step, and older runs are removed.

    Args:
        served: the model.
    """

    def __init__(self, served: ServedModel):
        super().__init__(f"{served.name}: trains on the studies that are marked normal")
        self.served = served
        config = ConfigParser(ConfigParser.load_config_file(served.bundle_root / "train.json"))
        self._flags = {*config["settings"]} - {*OWN}
        self._shown = {name: config.get_parsed_content(name) for name in SHOWN}

    def config(self) -> dict[str, Any]:
        """What viewers offer for editing."""
        return dict(self._shown)

    def stats(self) -> dict[str, Any]:
        """What is known of the training of the server's own model."""
        try:
            run = json.loads((self.served.folder / "run.json").read_text("utf-8"))
            data, epochs = run["data"], run["epochs"]
            settings = {name: value for name, value in run["settings"].items() if name not in OWN}
            return {
                "status": run["status"], "epochs": len(epochs), "loss": epochs[-1]["loss"] if epochs else None, "settings": settings,
                "patients": data["train"]["patients"], "slices": data["train"]["slices"], "held_out_patients": data["calibration"]["patients"],
                "wall_time_s": run.get("wall_time_s"),
            }  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train.

        Args:
            request: flags of train.json, such as ``{"epochs": 20, "image_size": 256}``.
            datastore: the studies.

        Returns:
            What :meth:`stats` says.

        Raises:
            RequestError: too few studies are marked, or they cannot be trained on; with the reason.
        """
        begin()  # in a process of its own an error ends in one sentence, which the status of the training shows
        with answering():
            flags = self._given(request)
            cases = self._normals(datastore)
            folder = self.served.folder / "runs" / _digest(cases, flags)
            datalist = write_datalist(folder / "datalist.json", cases)
            self._check(datalist, len(cases))
            try:
                self._train(datalist, folder, flags)
            except Exception as error:  # MONAI wraps what the parts of a config raise
                raise (find_anomaly_error(error) or error) from error
            self._publish(folder)
        return self.stats()

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
        return flags

    def _normals(self, datastore: Datastore) -> list[Case]:
        cases: list[Case] = []
        for study in sorted(datastore.list_images()):
            info = datastore.get_image_info(study)
            if info.get(NORMAL) is not True:
                continue
            if _is_marked(datastore, study):
                logger.warning("A study is marked normal, but something is marked in its final label: it is not trained on.")
                continue
            case: Case = {"image": dicom_behind(datastore.get_image_uri(study)), "label": 0, "split": "train"}
            if isinstance(info.get("patient"), str):
                case["patient"] = info["patient"]
            cases.append(case)
        return cases

    def _check(self, datalist: Path, n_marked: int) -> None:
        patients = {case["patient"] for case in find_cases(datalist).cases} if n_marked else set()
        if len(patients) < FEWEST_PATIENTS:
            raise DataError(
                f"{n_marked} studies are marked normal, of {len(patients)} patients that can be read; expected at least {FEWEST_PATIENTS} patients, some of "
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


def _is_marked(datastore: Datastore, study: str) -> bool:
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
