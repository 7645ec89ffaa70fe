"""Imports go one way, from top to bottom (DESIGN, section 3): whoever changes a part needs to know what lies above it, and nothing below."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "monai_anomaly"

ORDER = (
    "__version__", "errors", "memory", "files", "pickle_claims", "state_file", "_torchvision",  # the ground
    "transforms", "data", "networks", "losses", "scoring", "metrics", "training", "writers", "report",  # the way of the data
    "verdict", "bundle", "inference", "export", "compare", "pack", "doctor",  # what people and configs call
    "label", "__main__",
)  # fmt: skip
"""A part imports parts before it, and no others."""

FORBIDDEN = {
    **dict.fromkeys(("transforms", "losses", "metrics", "scoring"), ("files", "state_file", "data", "training", "writers")),
    "networks": ("data", "training", "writers"),
    **dict.fromkeys(("writers", "report"), ("networks", "training")),
}
"""What the order alone does not forbid, or what is worth a name."""

READ_WEIGHTS = {"networks/weights.py", "networks/released.py"}
"""The files of ``networks`` that read files: a teacher's weights, and checkpoints of the papers' own code."""


def imports() -> list[tuple[str, str]]:
    """File and what it imports of this package, wherever in the file: ``("losses/cosine.py", "networks.features.Features")``."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        folder = path.relative_to(PACKAGE).parent.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                base = [*folder[: len(folder) + 1 - node.level]] if node.level else []
                words = [*base, *(node.module or "").split(".")] if node.module else base
                targets = [".".join([*words, name.name]) for name in node.names]
            elif isinstance(node, ast.Import):
                targets = [name.name for name in node.names]
            else:
                continue
            own = getattr(node, "level", 0) > 0
            targets = targets if own else [target.partition(".")[2] for target in targets if target.split(".")[0] == PACKAGE.name]
            found += [(path.relative_to(PACKAGE).as_posix(), target) for target in targets]
    return found


def part(name: str) -> str:
    """The package of a file or of what is imported, or the module beside them."""
    return name.removesuffix(".py").replace("/", ".").split(".")[0]


IMPORTS = imports()


def test_the_list_is_of_what_there_is():
    assert {part(path.relative_to(PACKAGE).as_posix()) for path in PACKAGE.rglob("*.py")} - {"__init__"} == {*ORDER} - {"__version__"}
    assert {("losses/cosine.py", "networks"), ("data/study/files.py", "errors"), ("__main__.py", "doctor")} <= {
        (file, part(to)) for file, to in IMPORTS
    }


def test_imports_go_from_top_to_bottom_only():
    upwards = [(file, to) for file, to in IMPORTS if part(file) != part(to) and ORDER.index(part(file)) < ORDER.index(part(to))]
    assert not upwards


@pytest.mark.parametrize("name", FORBIDDEN)
def test_mathematics_knows_no_files_and_results_know_no_networks(name):
    assert not [(file, to) for file, to in IMPORTS if part(file) == name and part(to) in FORBIDDEN[name]]


def test_networks_read_weights_and_no_other_files():
    assert {file for file, to in IMPORTS if part(file) == "networks" and part(to) in ("files", "state_file")} == READ_WEIGHTS


def test_nothing_imports_the_app():
    assert not [(file, to) for file, to in IMPORTS if part(to) in ("label", "apps") and part(file) != "label"]


def test_no_two_files_need_each_other():
    modules = {
        path.relative_to(PACKAGE).as_posix().removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
    }
    needs: dict[str, set[str]] = {}
    for file, to in IMPORTS:
        name = file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        target = to if to in modules else to.rpartition(".")[0]
        needs.setdefault(name, set()).add(target)
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")
