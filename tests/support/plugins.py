"""The site's own modules, which are no part of the package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def plugin(name: str) -> ModuleType:
    """A module of ``docs/plugins``."""
    spec = importlib.util.spec_from_file_location(f"docs_plugins_{name}", ROOT / "docs" / "plugins" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / "docs" / "plugins"))  # they import each other
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module
