"""What makes the app in apps/anomaly: models, trainers, scoring and strategy of the bundles that ``--conf models`` names."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.random import Random
from monailabel.utils.sessions import Sessions

from .. import __version__
from .._optional_decoder import ignore_optional_decoder
from ..errors import OptionError
from .infer import AnomalyInfer
from .models import served_models
from .pacs.cache import CACHE_GB
from .pacs.store import open_pacs
from .private import private_folder, use_private_temporary_files
from .refusals import RequestError, check_known
from .scoring import AnomalyScoring
from .strategy import MostAnomalous
from .studies import StudyFolder
from .train import TEACHER, TrainOnNormals

if TYPE_CHECKING:
    from monailabel.interfaces.app import MONAILabelApp
else:
    MONAILabelApp = object  # MONAI Label takes the first class of main.py whose direct base has this name; this one is no app of its own

__all__ = ["AnomalyApp"]


class AnomalyApp(MONAILabelApp):
    """To be put before ``MONAILabelApp`` among the bases of an app's class.

    Each bundle ``NAME`` has the models ``NAME`` (the mask, for viewers) and ``NAME_map`` (the heat map), the trainer ``NAME`` and the scoring method ``NAME``.

    Args:
        app_dir: the app's folder.
        studies: folder of studies, or address of a DICOMweb service.
        conf: what ``--conf`` says: ``models``, the bundles; ``teacher_weights``, a file or name for trainings on this server; ``cache_gb``, how much of a PACS
            may lie on its disk.

    Raises:
        OptionError: ``models`` names no bundles that there are, or ``cache_gb`` is no number.
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]):
        use_private_temporary_files()
        _log_what_matters()
        self.served = served_models(conf, app_dir)
        for served in self.served.values():
            served.folder.mkdir(parents=True, exist_ok=True)
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf),
            name=f"Anomaly detection ({', '.join(self.served)})",
            description="What is more unusual than normal scans are; trained on normal scans alone. Research only, not for diagnostic use.",
            version=__version__,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """A mask and a heat map of each model."""
        keep = self._datastore.keep_heatmap
        masks: dict[str, InferTask] = {name: AnomalyInfer(served, "mask", keep) for name, served in self.served.items()}
        return masks | {f"{name}_map": AnomalyInfer(served, "map", keep) for name, served in self.served.items()}

    def init_trainers(self) -> dict[str, TrainTask]:
        """One for each model."""
        return {name: TrainOnNormals(served, self.conf.get(TEACHER)) for name, served in self.served.items()}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """One for each model."""
        return {name: AnomalyScoring(served) for name, served in self.served.items()}

    def init_strategies(self) -> dict[str, Strategy]:
        """The most unusual study first, or any."""
        return {"most_anomalous": MostAnomalous(self.served), "random": Random()}

    def init_datastore(self) -> Datastore:
        """A folder of studies, or a PACS."""
        if self.studies.startswith(("http://", "https://")):
            return super().init_datastore()
        return StudyFolder(self.studies)

    def _init_dicomweb_datastore(self) -> Datastore:
        given = self.conf.get("cache_gb", str(CACHE_GB))
        try:
            limit = float(given)
        except ValueError:
            limit = 0.0
        if not 0 < limit < float("inf"):
            raise OptionError(f"cache_gb is {given!r}; expected a number of gigabytes above 0, such as --conf cache_gb 50.")
        return open_pacs(self.studies, limit)

    def _load_sessions(self, load: bool = False) -> Sessions | None:
        """Uploads that stay for an hour are pixels of patients, too."""
        sessions: Sessions | None = super()._load_sessions(load)
        if sessions is not None:
            private_folder(Path(sessions.store_path), "MONAI_LABEL_SESSION_PATH")
        return sessions

    def _download_dcmqi_tools(self) -> None:
        """They are not needed: DICOM results are written by :mod:`monai_anomaly.writers`."""

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Judge a study; see :class:`~monai_anomaly.label.infer.AnomalyInfer`.

        MONAI Label takes the name of a study for a path, if there is a file or folder of this name anywhere on the server. Here a path is taken only where
        uploads and sessions are.

        Args:
            request: ``model``, ``image`` and what the model understands.
            datastore: the studies; default: the app's.

        Raises:
            RequestError: no such model or study, or it cannot be judged; with the reason.
        """
        image = request.get("image")
        check_known("model", request.get("model"), self._infers)
        if not isinstance(image, str) or not image or (os.path.exists(image) and not self._is_upload(Path(image))):
            raise RequestError(
                f"There is no study called {str(image)[:100]!r}; expected one of the data store, by its name, or an upload. (Names of files in the folder "
                "that the server was started in cannot be used.)",
                404,
            )
        found: dict[str, Any] = super().infer(request, datastore)
        return found

    def _is_upload(self, path: Path) -> bool:
        sessions = self.sessions()
        places = [tempfile.gettempdir(), *([sessions.store_path] if sessions is not None else [])]
        return any(path.resolve().is_relative_to(Path(place).resolve()) for place in places)

    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        """Train a model; see :class:`~monai_anomaly.label.train.TrainOnNormals`.

        Args:
            request: ``model``, and flags.

        Raises:
            RequestError: no such model, or it cannot be trained; with the reason.
        """
        check_known("model", request.get("model"), self._trainers)
        trained: dict[str, Any] = super().train(request)
        return trained

    def scoring(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Score the studies that nobody has looked at; see :class:`~monai_anomaly.label.scoring.AnomalyScoring`.

        Args:
            request: ``method``, a model's name.
            datastore: the studies; default: the app's.

        Raises:
            RequestError: no such method.
        """
        check_known("scoring method", request.get("method"), self._scoring_methods)
        counts: dict[str, Any] = super().scoring(request, datastore)
        return counts

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """The study to be looked at next; see :class:`~monai_anomaly.label.strategy.MostAnomalous`.

        Args:
            request: ``strategy``, and what it understands.

        Raises:
            RequestError: no such strategy, or the study cannot be had.
        """
        check_known("strategy", request.get("strategy"), self._strategies)
        found: dict[str, Any] = super().next_sample(request)
        return found

    def bundle_path(self, model: Any) -> str:
        """A bundle's folder, which MONAI Label puts on the path of Python in a background job: without one it puts there what the client's request names.

        Args:
            model: not used; jobs that are no training have none.
        """
        return str(next(iter(self.served.values())).bundle_root)

    def batch_infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Judge many studies; one that cannot be judged has its reason in the result, and the rest goes on.

        Args:
            request: ``model``, ``images`` and what the model understands.
            datastore: the studies; default: the app's.
        """

        def infer(one: dict[str, Any], store: Datastore) -> dict[str, Any]:
            try:
                return self.infer(one, store)
            except RequestError as refused:
                return {"refused": str(refused)}

        found: dict[str, Any] = self._batch_infer(request, datastore or self.datastore(), infer)
        return found


def _log_what_matters() -> None:
    """Of each study one line, not four of the engine that scores it, and nothing of a GPU decoder that nobody asked for."""
    logging.getLogger("ignite.engine.engine.AnomalyEvaluator").setLevel(logging.WARNING)
    ignore_optional_decoder()
