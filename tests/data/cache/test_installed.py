"""Code that an installer put somewhere on Python's path counts by its version, wherever that is."""

from __future__ import annotations

import importlib
import sys

import pytest

from monai_anomaly.data.cache.describe import describe


@pytest.mark.parametrize("folder, installed", [("site-packages", True), ("dist-packages", True), ("my-code", False)])
def test_a_package_of_the_users_own_folder_is_an_installed_one(tmp_path, monkeypatch, folder, installed):
    """As ``pip install --user`` makes it, and Debian: neither folder is one of the environment's own."""
    name = f"made_up_{folder.replace('-', '_')}"
    place = tmp_path / folder
    place.mkdir()
    file = place / f"{name}.py"
    file.write_text("__version__ = '4.5'\n\n\ndef scale(image):\n    return 2 * image\n")
    monkeypatch.syspath_prepend(place)
    try:
        scale = importlib.import_module(name).scale
        before = describe(scale)
        file.write_text(file.read_text() + "# edited\n")
        describe.__globals__["_module"].cache_clear()  # as in the next run
        assert (describe(scale) == before) is installed
    finally:
        sys.modules.pop(name, None)
