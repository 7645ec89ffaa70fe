from __future__ import annotations

import pytest

from monai_anomaly.data.cache.kept import KeptCases


@pytest.mark.parametrize(("processes", "limit"), [(None, 500), ("1", 500), ("2", 250), ("5", 100)])
def test_the_processes_of_a_machine_share_half_of_its_memory(monkeypatch, processes, limit):
    monkeypatch.setattr("monai_anomaly.data.cache.kept.available_bytes", lambda: 1000)
    if processes is None:
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    else:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert KeptCases(1, None, None, reread=lambda case: pytest.fail("not asked")).limit == limit
    assert KeptCases(1, None, 700, reread=lambda case: pytest.fail("not asked")).limit == 700
