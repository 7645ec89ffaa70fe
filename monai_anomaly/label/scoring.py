"""The worklist: every study that nobody has looked at gets its score, once for each model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.tasks.scoring import ScoringMethod

from ..errors import AnomalyError
from .models import ServedModel
from .normal import NORMAL
from .record import SharedRecord
from .refusals import RequestError

__all__ = ["SCORES", "AnomalyScoring", "told_by", "unreviewed"]

logger = logging.getLogger(__name__)

SCORES = "anomaly"
"""Entry of a study's info that holds what each model says of it, by the model's name."""


class AnomalyScoring(ScoringMethod):
    """One pass over the studies without a final label and without a mark, those first that have no score yet.

    What a study was given is written at once, so a job that is stopped goes on where it was. A study is scored again when the model or its file has changed;
    one that cannot be judged has its reason written instead, and the rest goes on.

    Args:
        served: the model.
    """

    def __init__(self, served: ServedModel):
        super().__init__(f"{served.name}: scores studies that nobody has looked at, for the strategy most_anomalous")
        self.served = served

    def __call__(self, request: Mapping[str, Any], datastore: SharedRecord) -> dict[str, Any]:
        """Score.

        Args:
            request: nothing in it is needed.
            datastore: the studies.

        Returns:
            How many were scored now, were scored before, and cannot be judged.
        """
        try:
            model = self.served.digest()
            known = {study: told_by(datastore.get_image_info(study), self.served.name) for study in unreviewed(datastore)}
        except AnomalyError as error:  # MONAI Label asks for scores whenever it starts, be there a model and a PACS or not
            logger.warning("Nothing is scored. %s", error)
            return {"scored": 0, "scored_before": 0, "refused": 0, "reason": str(error)}
        counts = {"scored": 0, "scored_before": 0, "refused": 0}
        for number, study in enumerate(sorted(known, key=lambda study: (bool(known[study]), study)), start=1):
            told = self._score(datastore, study, known[study], model)
            counts["refused" if told.get("refused") else "scored" if told is not known[study] else "scored_before"] += 1
            if told is not known[study]:
                logger.info("%s: %d of %d studies looked at", self.served.name, number, len(known))
        logger.info("%s: %d studies scored, %d scored before, %d cannot be judged.", self.served.name, *counts.values())
        return counts

    def _score(self, datastore: SharedRecord, study: str, before: Mapping[str, Any], model: str) -> Mapping[str, Any]:
        """What the model says of a study; the very ``before`` if it still holds."""
        told: dict[str, Any] = {"model": model, "file": ""}
        try:
            told["file"] = datastore.version(study)
            if (before.get("model"), before.get("file")) == (model, told["file"]):
                return before
            with datastore.in_passing(study) as image:
                verdict = self.served.detector().judge(image)
            told |= {
                "score": verdict.score, "p_value": verdict.p_value, "flagged": verdict.flagged, "n_findings": verdict.n_findings,
                "model": verdict.model.sha256,  # a training may have put another one in its place
            }  # fmt: skip
        except Exception as error:  # one bad study never ends the job
            told["refused"] = str(error if isinstance(error, AnomalyError) else f"It cannot be judged ({type(error).__name__}: {error}).")
            logger.warning("A study is not scored. %s", told["refused"])
            if isinstance(error, RequestError) and error.status >= 500:  # the PACS is to blame, not the study: what was known holds
                return told
        try:
            said = datastore.get_image_info(study).get(SCORES)
            datastore.update_image_info(study, {SCORES: {**(said if isinstance(said, dict) else {}), self.served.name: told}})
        except Exception as error:  # it was removed meanwhile
            logger.warning("A score could not be kept (%s).", type(error).__name__)
        return told


def unreviewed(datastore: SharedRecord) -> list[str]:
    """The studies that have neither a final label nor a mark that says whether they are normal, by name.

    Args:
        datastore: the studies.

    Example:
        >>> unreviewed(datastore)  # doctest: +SKIP
        ['head_7']
    """
    return sorted(study for study in datastore.get_unlabeled_images() if datastore.get_image_info(study).get(NORMAL) is None)


def told_by(info: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a model said of a study; nothing where somebody has written something else in its place.

    Args:
        info: the study's.
        name: the model's.

    Example:
        >>> told_by({"anomaly": {"skipts": {"score": 0.7}}}, "skipts")
        {'score': 0.7}
    """
    told = said.get(name) if isinstance(said := info.get(SCORES), dict) else None
    if not isinstance(told, dict) or not isinstance(score := told.get("score"), int | float | None) or score != score:  # NaN
        return {}
    return told
