"""How much memory this process may still use."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["available_bytes"]

# Where Linux says how much a job may use (control groups, version 2 and 1): limit, usage, and the part of the usage that is only cached files.
GROUPS = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_bytes(root: str | os.PathLike[str] = "/") -> int | None:
    """Memory that can be used without swapping: of the machine, or of the container or job where that is less.

    Args:
        root: where ``proc`` and ``sys`` lie.

    Returns:
        ``None`` where the system does not say; on other systems than Linux all of the machine's memory, where it does.

    Example:
        >>> (available_bytes() or 2**30) > 0
        True
    """
    rooms = [room for room in (_machine(Path(root)), *_groups(Path(root))) if room is not None]
    if rooms:
        return max(min(rooms), 0)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _table(path: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    try:
        lines = [line.replace(":", " ").split() for line in path.read_text().splitlines()]
        return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}
    except (OSError, ValueError):
        return {}


def _machine(root: Path) -> int | None:
    kib = _table(root / "proc/meminfo").get("MemAvailable")
    return None if kib is None else 1024 * kib


def _groups(root: Path) -> list[int]:
    """Room in the groups that this process belongs to, from its own one upwards."""
    rooms = []
    try:
        own = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return []
    for controller, limit, usage, cached in GROUPS:
        for _, controllers, path in (words for words in own if len(words) == 3 and controller in words[1].split(",")):
            top = root / "sys/fs/cgroup" / controllers
            places = [top / path.lstrip("/"), *(top / path.lstrip("/")).parents]
            for place in places[: places.index(top) + 1]:
                try:
                    room = int((place / limit).read_text()) - int((place / usage).read_text())
                except (OSError, ValueError):  # no such group here, as a container sees only its own; or the limit is "max"
                    continue
                rooms.append(room + _table(place / "memory.stat").get(cached, 0))
    return rooms
