"""What makes two runs the same run: whatever a weight depends on, told by its content and not by its place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist

from ..data import Case, CaseList, case_patient, fingerprint
from ..differences import differences
from ..networks import AnomalyDetector
from ..ranks import from_rank_0

__all__ = ["cases_digest", "identify", "identity_differences", "identity_of_model"]

FREE = ("epochs", "dataset_dir", "teacher_weights")
"""Settings that are not compared: epochs, which may become more, and those whose content is compared instead."""

_NAMES = {
    "teacher": "the teacher's weights (SHA-256)",
    "data": "the images (fingerprint)",
    "cases": "order, labels, masks or patients of the normal cases (fingerprint)",
    "processes": "the number of processes",
}


def identify(
    settings: Mapping[str, Any], detector: AnomalyDetector, cases: CaseList, train: Sequence[Case], held_out: Sequence[Case]
) -> dict[str, Any]:
    """Describe a run, so that it can be told from every other.

    Of several processes one looks, and tells the others.

    Args:
        settings: every flag of the bundle that can change a number, with the value in use.
        detector: its teacher's SHA-256 counts.
        cases: everything that was found in the data folder.
        train: the cases to train on, in their order, which the order of training comes from.
        held_out: the cases to calibrate with.

    Returns:
        Plain data: ``settings``, ``teacher``, ``data``, ``cases``, ``processes``. A data folder or a weight file that was moved gives the same.
    """
    return from_rank_0(
        lambda: {
            "settings": _compared(json.loads(json.dumps(dict(settings), default=str))),
            "teacher": detector.system.teacher.sha256,
            "data": fingerprint(cases.cases),
            "cases": cases_digest(train, held_out),
            "processes": idist.get_world_size(),
        }
    )


def identity_of_model(description: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a trained model.

    Args:
        description: the model's own, see :func:`monai_anomaly.training.read_model_description`.
    """
    told = description["provenance"]
    settings = told.get("settings")
    return {
        "settings": _compared(settings) if isinstance(settings, dict) else {},
        "teacher": description["teacher"]["sha256"],
        "data": told.get("data_fingerprint"),
        "cases": told.get("cases_fingerprint"),
        "processes": told.get("processes"),
    }


def identity_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Each difference of two identities in a few words, with both values.

    Example:
        >>> then = {"settings": {"lr": 0.1}, "teacher": "5f", "data": "ab", "cases": "cd", "processes": 1}
        >>> identity_differences(then, then | {"settings": {"lr": 0.2}, "processes": 2})
        ['lr was 0.1 and is 0.2', 'the number of processes was 1 and is 2']
    """
    return differences(*({**one["settings"], **{words: one[key] for key, words in _NAMES.items()}} for one in (then, now)))


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in FREE}


def cases_digest(*splits: Sequence[Case]) -> str:
    """SHA-256 of images, labels, masks and patients. Renamed files are the same cases, files in another order are not: training draws places in the list.

    Args:
        splits: lists of cases; which case stands in which list counts.

    Example:
        >>> cases_digest([])[:8]
        '01ba4719'
    """
    digest = hashlib.sha256()
    patients: dict[str, int] = {}
    for cases in splits:
        for case in cases:
            patient = patients.setdefault(case_patient(case), len(patients))
            mask = fingerprint([{"image": case["mask"]}]) if "mask" in case else None
            digest.update(json.dumps([patient, case.get("label"), fingerprint([case]), mask]).encode())
        digest.update(b"\n")
    return digest.hexdigest()
