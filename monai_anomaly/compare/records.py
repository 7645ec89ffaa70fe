"""What is known of a run when it is over: one JSON line each, made of the files that the run itself has written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import write_whole
from .plan import Run

__all__ = ["COMPLETED", "FAILED", "Record", "read_metrics", "run_record", "write_records"]

Record = dict[str, Any]

COMPLETED, FAILED = "completed", "failed"
RECORDS = "runs.jsonl"

_METRICS = {"image": ("auroc", "ap"), "patient": ("auroc", "ap"), "pixel": ("auroc", "ap", "aupro")}


def read_metrics(folder: Path) -> dict[str, Any] | None:
    """What an evaluation says when it is complete, which it writes last; ``None`` before."""
    try:
        found = json.loads((folder / "metrics.json").read_text("utf-8"))
        return dict(found) if found["complete"] is True else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def run_record(run: Run, out: Path, reason: str | None = None) -> Record:
    """Put together what is said of a run.

    Args:
        run: a run that has finished or failed.
        out: the comparison's folder.
        reason: why it failed, or ``None``.
    """
    record: Record = {
        "run": run.evaluation.relative_to(out).as_posix(),
        "status": FAILED if reason else COMPLETED,
        "reason": reason,
        "dataset": run.dataset.name,
        "fingerprint": run.dataset.fingerprint,
        "system": str(run.spec),
        "bundle": run.spec.bundle,
        "overlays": list(run.spec.overlays),
        "overrides": dict(run.spec.flags),
        "seed": run.seed,
        "epochs": run.epochs,
    }
    found = read_metrics(run.evaluation)
    if reason or found is None:
        return record
    metrics = found["metrics"]
    numbers = {f"{unit}_{name}": metrics[unit][name] for unit, names in _METRICS.items() for name in names if name in metrics.get(unit, {})}
    training = _read_record(run.folder)
    return record | {
        **numbers,
        "mean_intensity_auroc": metrics["image"].get("baseline_mean_intensity_auroc"),
        "teacher": found["teacher"],
        "settings": found["provenance"].get("settings", {}) | found["rule"],
        "training_time_s": training.get("wall_time_s"),
        "device": training.get("device"),
        "versions": found["versions"],
    }


def write_records(out: Path, records: Sequence[Record]) -> Path:
    """Write all of them, whole; lines of other runs in the same folder, from other commands, stay before them.

    Raises:
        DataError: the file that is there is none of these, or it cannot be written.
    """
    path = out / RECORDS
    mine = {record["run"] for record in records}
    try:
        earlier = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []
        kept = [record for record in earlier if record["run"] not in mine]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); expected the JSON lines that compare writes: move it away, it is made anew from the runs."
        ) from error
    lines = [json.dumps(record, ensure_ascii=False, default=str) for record in (*kept, *records)]
    return write_whole(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "run.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}
