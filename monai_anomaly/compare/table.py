"""The table: mean and standard deviation over the seeds, floors beside the systems, and a sentence wherever a floor wins."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from .records import COMPLETED, Record

__all__ = ["comparison_table", "mean_and_deviation"]

NOTHING = "–"

_IMAGE = {"image_auroc": "AUROC", "image_ap": "AP"}
_PIXEL = {"pixel_auroc": "pixel AUROC", "pixel_aupro": "AUPRO"}
_STATED = ("backbone", "image_size", "batch_size", "lr", "amp", "refresh_batch_norm", "calibration_fraction")
"""Settings that belong to the budget; all others stand in the JSON lines."""


def comparison_table(records: Sequence[Record], floors: Sequence[Record], command: str = "") -> str:
    """Write the Markdown.

    Args:
        records: of all runs, finished and failed.
        floors: of the floors.
        command: the command line that made them.

    Returns:
        Table, budget, where floors win, and what failed.
    """
    datasets = _unique(record["dataset"] for record in records)
    rows = {name: [record for record in records if record["system"] == name] for name in _unique(record["system"] for record in records)}
    lowest = _floor_rows(floors)
    columns = [(dataset, key, name) for dataset in datasets for key, name in _columns([*records, *floors], dataset).items()]
    lines = ["| | " + " | ".join(f"{dataset} {name}" for dataset, _, name in columns) + " |"]
    lines.append("|---|" + "---|" * len(columns))
    for name, own in [*rows.items(), *((f"*{name}*", own) for name, own in lowest.items())]:
        cells = [_cell([record for record in own if record["dataset"] == dataset], key) for dataset, key, _ in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", _budget(records), *([f"Command: `{command}`"] if command else []), ""]
    lines += [_verdict(dataset, rows, lowest) for dataset in datasets]
    failed = [record for record in (*records, *floors) if record["status"] != COMPLETED]
    if failed:
        lines += [
            "",
            "Failed:",
            "",
            *(f"* {_name(record)} on {record['dataset']}, seed {record['seed']}: {record['reason']}" for record in failed),
        ]
    return "\n".join(lines) + "\n"


def mean_and_deviation(values: Sequence[float]) -> str:
    """In percent, with the standard deviation of a sample (n - 1) where there is more than one value.

    Example:
        >>> mean_and_deviation([0.5, 0.75]), mean_and_deviation([0.5])
        ('62.5 ± 17.7', '50.0')
    """
    mean = f"{100 * statistics.fmean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


def _columns(records: Sequence[Record], dataset: str) -> dict[str, str]:
    pixels = any("pixel_auroc" in record for record in records if record["dataset"] == dataset)
    return _IMAGE | (_PIXEL if pixels else {})


def _cell(records: Sequence[Record], key: str) -> str:
    values = _values(records, key)
    failed = sum(record["status"] != COMPLETED for record in records)
    if not values:
        return "failed" if failed else NOTHING
    return mean_and_deviation(values) + (f" ({len(values)} of {len(records)})" if failed else "")


def _values(records: Sequence[Record], key: str) -> list[float]:
    return [record[key] for record in records if record.get(key) is not None]


def _floor_rows(floors: Sequence[Record]) -> dict[str, list[Record]]:
    """Floors by name; where there are several of a name, with what tells them apart."""
    rows: dict[str, list[Record]] = {}
    for record in floors:
        alike = [other["conditions"] for other in floors if other["floor"] == record["floor"]]
        apart = [name for name in record["conditions"] if len({str(other.get(name)) for other in alike}) > 1]
        named = ", ".join(f"{name} {record['conditions'][name]}" for name in apart)
        rows.setdefault(f"{record['floor']}, {named}" if named else record["floor"], []).append(record)
    return rows


def _budget(records: Sequence[Record]) -> str:
    """One sentence about what all runs share, and where they differ."""
    done = [record for record in records if record["status"] == COMPLETED]
    seeds = _unique(record["seed"] for record in records)
    plural = (
        f"{len(seeds)} seeds ({', '.join(map(str, seeds))}): mean ± standard deviation over them"
        if len(seeds) > 1
        else f"One seed ({seeds[0]})"
    )
    parts = [_shared("teacher", [(record["system"], _teacher(record)) for record in done])] if done else []
    parts += [_shared(name, [(record["system"], record["settings"].get(name)) for record in done]) for name in _STATED if done]
    versions = [f"{name} {' and '.join(found)}" for name, found in _versions(done).items() if len(found) > 1]
    mixed = f" The runs were made with different versions: {', '.join(versions)}." if versions else ""
    epochs = ", ".join(map(str, _unique(record["epochs"] for record in records)))
    return f"{plural}, in percent, last of {epochs} epochs{''.join(f'; {part}' for part in parts)}.{mixed}"


def _shared(name: str, told: Sequence[tuple[str, Any]]) -> str:
    values: dict[str, list[str]] = {}
    for system, value in told:
        systems = values.setdefault(str(value), [])
        if system not in systems:
            systems.append(system)
    if len(values) == 1:
        return f"{name} {next(iter(values))}"
    return f"{name} " + ", ".join(f"{value} ({', '.join(systems)})" for value, systems in values.items())


def _teacher(record: Record) -> str:
    teacher = record["teacher"]
    return "untrained" if teacher["untrained"] else f"{teacher['source']} (SHA-256 {teacher['sha256'][:12]}...)"


def _versions(records: Sequence[Record]) -> dict[str, list[str]]:
    names = _unique(name for record in records for name in record["versions"])
    return {name: _unique(str(record["versions"].get(name)) for record in records) for name in names}


def _verdict(dataset: str, rows: dict[str, list[Record]], floors: dict[str, list[Record]]) -> str:
    """Whether a floor beats systems there, by the mean image AUROC."""
    means = [{name: _mean(own, dataset) for name, own in group.items()} for group in (rows, floors)]
    systems, lowest = ({name: mean for name, mean in group.items() if mean is not None} for group in means)
    won = []
    for floor, limit in lowest.items():
        beaten = [f"{name} ({100 * mean:.1f})" for name, mean in systems.items() if mean < limit]
        if beaten:
            won.append(f"*{floor}* ({100 * limit:.1f}) beats {', '.join(beaten)}")
    if not won:
        return f"On {dataset} no floor beats a system." if systems and lowest else f"On {dataset} there is nothing to compare."
    return f"On {dataset} {'; '.join(won)}."


def _mean(records: Sequence[Record], dataset: str) -> float | None:
    values = _values([record for record in records if record["dataset"] == dataset], "image_auroc")
    return statistics.fmean(values) if values else None


def _name(record: Record) -> str:
    return str(record.get("floor") or record["system"])


def _unique(values: Any) -> list[Any]:
    return list(dict.fromkeys(values))
