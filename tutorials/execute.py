"""Run the tutorials from top to bottom, and keep what they print and draw.

``make tutorials`` calls it without arguments: every notebook is run with the values that stand in it, and its outputs are written back into it.
The tests run the same notebooks small: ``python tutorials/execute.py --small --out FOLDER``.

A notebook's first code cell is tagged ``parameters`` (papermill's convention); the values of the small run stand in the notebook's metadata under
``monai_anomaly.small`` and are set in a cell behind it.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from PIL import Image

TUTORIALS = Path(__file__).parent
TIMEOUT_S = 1200
TEXTS = ("text/plain", "text/html")
LARGE_PICTURE = 60_000
LARGEST_BYTES = 700_000  # a page that GitHub still shows quickly


class TutorialError(Exception):
    """A notebook that cannot be run as a tutorial, or whose outputs cannot be kept."""


def main() -> None:
    """Read the command line and run notebook by notebook."""
    parser = argparse.ArgumentParser(description="Run the tutorials and keep their outputs.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="notebooks to run (default: all beside this file)")
    parser.add_argument("--small", action="store_true", help="with the small values of the tests; needs --out")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the notebooks with their outputs there (default: where they are)")
    options = parser.parse_args()
    if options.small and options.out is None:
        parser.error("--small would put the outputs of a small run into the tutorials: name a folder with --out")
    for source in options.notebooks or sorted(TUTORIALS.glob("*.ipynb")):
        started = time.perf_counter()
        target = source if options.out is None else options.out / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            text = execute(nbformat.read(source, as_version=4), options.small)
        except TutorialError as error:
            sys.exit(f"{source.name}: {error}")
        target.write_text(text, encoding="utf-8", newline="\n")
        sys.stdout.write(f"{source.name}: {time.perf_counter() - started:.0f} s, {len(text.encode()) / 1000:.0f} kB\n")


def execute(notebook: nbformat.NotebookNode, small: bool) -> str:
    """Run a notebook in a folder of its own, which is removed afterwards.

    Args:
        notebook: it; its outputs are replaced.
        small: with the values under ``monai_anomaly.small`` in its metadata.

    Returns:
        The notebook with its outputs, as the text of an ``.ipynb``.

    Raises:
        TutorialError: parameters that are none, or outputs that cannot be kept.
        CellExecutionError: a cell raised an error.
    """
    values = notebook.metadata.get("monai_anomaly", {}).get("small", {})
    position = _parameters(notebook, values)
    if small:
        lines = [f"{name} = {value!r}" for name, value in values.items()]
        notebook.cells.insert(position + 1, nbformat.v4.new_code_cell("\n".join(lines), metadata={"tags": ["injected-parameters"]}))
    with tempfile.TemporaryDirectory() as folder:
        manager = AsyncKernelManager(kernel_name="python3", connection_file=str(Path(folder) / "kernel.json"))
        # This Python, whichever kernels are registered on the machine; and `!python` is this one as well.
        manager.kernel_spec.argv = [sys.executable, "-m", "ipykernel_launcher", "--log-level=ERROR", "-f", "{connection_file}"]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        work, temporary = (Path(folder).resolve() / name for name in ("work", "tmp"))
        work.mkdir()
        temporary.mkdir()
        environment = {**os.environ, "PATH": path, "IPYTHONDIR": str(Path(folder) / "ipython"), "TMPDIR": str(temporary)}
        client = NotebookClient(
            notebook, km=manager, timeout=TIMEOUT_S, resources={"metadata": {"path": str(work)}}, record_timing=False, coalesce_streams=True
        )
        client.execute(env=environment)
        _shrink_pictures(notebook)
        _make_portable(notebook, {f"{work}{os.sep}": "", str(work): ".", str(Path.home()): "~"})
        _check_outputs(notebook, [folder, str(work.parent), sys.prefix])
    notebook.metadata["language_info"] = {"name": "python"}  # without the version of the machine that ran it
    text = nbformat.writes(notebook) + "\n"
    if len(text.encode()) > LARGEST_BYTES:
        raise TutorialError(
            f"{len(text.encode()) / 1000:.0f} kB; expected at most {LARGEST_BYTES / 1000:.0f} kB: draw fewer or smaller pictures."
        )
    return text


def _parameters(notebook: nbformat.NotebookNode, values: dict[str, object]) -> int:
    """Position of the cell with the parameters."""
    code = [index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    tagged = [index for index in code if "parameters" in notebook.cells[index].metadata.get("tags", [])]
    if tagged != code[:1]:
        raise TutorialError("The first code cell, and no other one, has to be tagged 'parameters'.")
    source = notebook.cells[tagged[0]].source
    unknown = [name for name in values if not re.search(rf"^{name} = ", source, re.MULTILINE)]
    if unknown:
        raise TutorialError(f"Parameters of the small run that the first code cell does not set: {', '.join(unknown)}.")
    return tagged[0]


def _shrink_pictures(notebook: nbformat.NotebookNode) -> None:
    """Keep each picture once, and a large one as JPEG: of scans with colours it is a third of the bytes."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                data.pop("image/jpeg", None)  # of a Pillow image IPython gives both
                if len(data["image/png"]) > LARGE_PICTURE:
                    with Image.open(io.BytesIO(base64.b64decode(data.pop("image/png")))) as picture:
                        small = io.BytesIO()
                        picture.convert("RGB").save(small, "JPEG", quality=85, subsampling=0, optimize=True)
                    data["image/jpeg"] = base64.b64encode(small.getvalue()).decode()


def _make_portable(notebook: nbformat.NotebookNode, places: dict[str, str]) -> None:
    """Write paths as a reader would see them from the folder that the notebook ran in."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for holder, name in [(output, "text"), *((output.get("data", {}), kind) for kind in TEXTS)]:
                for place, written in places.items():
                    if name in holder:
                        holder[name] = holder[name].replace(place, written)


def _check_outputs(notebook: nbformat.NotebookNode, private: list[str]) -> None:
    """Refuse outputs with an error that did not stop the run, such as one inside ``%run``, and those that name another place on this machine."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                raise TutorialError(f"An error in the cell\n{cell.source}\n\n{output.ename}: {output.evalue}")
            text = output.get("text", "") + "".join(str(output.get("data", {}).get(kind, "")) for kind in TEXTS)
            found = [place for place in private if place in text]
            if found:
                raise TutorialError(f"The cell\n{cell.source}\n\nprints the path {found[0]} of this machine:\n{text}")


if __name__ == "__main__":
    main()
