"""Every tutorial runs from top to bottom, small, in a folder of its own; what is kept in the repository is the output of the cells that stand there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.repository import ROOT

TUTORIALS = ROOT / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TUTORIALS / "execute.py", *map(str, words)], capture_output=True, text=True, check=False)


def notebook(folder: Path, *cells: str, small: dict[str, object] | None = None) -> Path:
    """A notebook whose first cell is tagged as its parameters."""
    described = []
    for index, source in enumerate(cells):
        metadata = {"tags": [] if index else ["parameters"]}
        described.append(
            {"cell_type": "code", "id": f"c{index}", "metadata": metadata, "source": source, "outputs": [], "execution_count": None}
        )
    path = folder / "notebook.ipynb"
    path.write_text(
        json.dumps({"cells": described, "metadata": {"monai_anomaly": {"small": small or {}}}, "nbformat": 4, "nbformat_minor": 5})
    )
    return path


def printed(path: Path) -> str:
    outputs = [output for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] for output in cell["outputs"]]
    return "".join("".join(output.get("text", "")) for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_tutorial_runs_small(path, tmp_path):
    done = run("--small", "--out", tmp_path, path)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_outputs_are_of_one_run_from_top_to_bottom(path):
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [cell for cell in cells if "injected-parameters" in cell["metadata"].get("tags", [])]
    assert any(kind.startswith("image/") for cell in cells for output in cell["outputs"] for kind in output.get("data", {}))
    assert path.stat().st_size < 700_000


def test_cells_are_formatted_and_as_short_as_lines_of_140_allow():
    pytest.importorskip("ruff", reason="make lint's environment")
    short = ["--config", "format.skip-magic-trailing-comma=true", "--config", "lint.isort.split-on-trailing-comma=false"]
    done = subprocess.run([sys.executable, "-m", "ruff", "format", "--check", *short, TUTORIALS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_small_values_take_the_place_of_those_in_the_notebook(tmp_path):
    show = "from pathlib import Path\nprint(EPOCHS, DATA, Path('runs').absolute(), Path.cwd())"
    path = notebook(tmp_path, "EPOCHS = 20\nDATA = 'here'", show, small={"EPOCHS": 1})
    assert run("--small", "--out", tmp_path / "small", path).returncode == 0
    assert run("--out", tmp_path / "whole", path).returncode == 0
    assert printed(tmp_path / "small/notebook.ipynb") == "1 here runs .\n"
    assert printed(tmp_path / "whole/notebook.ipynb") == "20 here runs .\n"
    assert printed(path) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell, told",
    [
        ("raise ValueError('broken cell')", "broken cell"),
        ("%run -m no_such_module", "no_such_module"),
        ("import sys\nprint(sys.executable)", "of this machine"),
    ],
)
def test_what_must_not_be_kept_fails(cell, told, tmp_path):
    path = notebook(tmp_path, "EPOCHS = 20", cell)
    before = path.read_bytes()
    done = run(path)
    assert done.returncode != 0 and told in done.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize("words", [["--small"], ["--small", "--out", "."]])
def test_a_small_run_needs_a_place_and_values_that_are_parameters(words, tmp_path):
    path = notebook(tmp_path, "EPOCHS = 20", small={"EPOCH": 1})
    done = run(*words, path)
    assert done.returncode != 0 and ("--out" in done.stderr or "EPOCH" in done.stderr)
