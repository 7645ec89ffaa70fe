"""How much memory a process may still use."""

from __future__ import annotations

import pytest

from monai_anomaly.memory import available_bytes

MIB = 2**20


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MACHINE = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    4096 kB\nOdd line\n", "proc/self/cgroup": "0::/job/step\n"}


def version_2(limit, usage, cached=0, place="job"):
    where = f"sys/fs/cgroup/{place}"
    return {
        f"{where}/memory.max": f"{limit}\n",
        f"{where}/memory.current": f"{usage}\n",
        f"{where}/memory.stat": f"anon 1\ninactive_file {cached}\n",
    }


def version_1(limit, usage, place):
    where = f"sys/fs/cgroup/memory{place}"
    return {f"{where}/memory.limit_in_bytes": f"{limit}\n", f"{where}/memory.usage_in_bytes": f"{usage}\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 4 * MIB),
        (version_2("max", MIB), 4 * MIB),
        (version_2(3 * MIB, MIB), 2 * MIB),
        (version_2(3 * MIB, MIB, cached=MIB // 2), 2.5 * MIB),  # what only caches files can be had
        (version_2(9 * MIB, MIB) | version_2(2 * MIB, MIB, place="job/step"), MIB),
        (version_2(9 * MIB, MIB, place="job/step") | version_2(2 * MIB, 3 * MIB), 0),  # over its limit
        (version_2(2 * MIB, MIB, place="elsewhere"), 4 * MIB),
        (version_2(2 * MIB, MIB, place="."), MIB),  # a container sees its own group as the topmost
        ({"proc/self/cgroup": "9:cpu:/a\n4:memory:/job\n"} | version_1(3 * MIB, MIB, "/job") | version_1(2**63 - 4096, MIB, ""), 2 * MIB),
        ({"proc/self/cgroup": "4:memory:/host/only\n"} | version_1(3 * MIB, 2 * MIB, ""), MIB),
        ({"proc/self/cgroup": "nonsense\n\n4:memory\n"}, 4 * MIB),
    ],
)
def test_the_machine_or_the_job_whichever_has_less(tmp_path, files, expected):
    assert available_bytes(write(tmp_path, MACHINE | files)) == expected


def test_where_the_system_does_not_say(tmp_path):
    everything = available_bytes(tmp_path)
    assert everything is None or everything > 64 * MIB
