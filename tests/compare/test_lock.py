"""A folder of results is one comparison's at a time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from monai_anomaly.compare import lock
from monai_anomaly.compare.lock import hold_folder
from monai_anomaly.errors import OptionError


def test_a_folder_is_held_by_one_and_by_what_outlives_it(tmp_path, monkeypatch):
    pytest.importorskip("fcntl")
    monkeypatch.setattr(lock, "PATIENCE_S", 0.0)
    with hold_folder(tmp_path) as held:
        with pytest.raises(OptionError, match="in use"), hold_folder(tmp_path):
            pass
        left = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=held)
    try:
        with pytest.raises(OptionError, match="in use"), hold_folder(tmp_path):
            pass
    finally:
        left.communicate(b"\n")
    with hold_folder(tmp_path):
        pass
