"""A notebook as Markdown: its text, its code, and what the cells printed and drew when it was kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from formulas import with_formulas

ANSI = re.compile(r"\x1b\[[0-9;]*m")
FENCE = "`" * 6


def notebook_text(path: Path) -> str:
    """The notebook's cells, one after the other; nothing is run."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return "\n\n".join(part for cell in cells for part in _parts(cell))


def _parts(cell: dict) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] != "code":
        yield with_formulas(source)
        return
    if source.strip():
        yield f"{FENCE}python\n{source}\n{FENCE}"
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "text/markdown" in data:
            yield with_formulas("".join(data["text/markdown"]))
            continue
        printed = "".join(output.get("text", data.get("text/plain", "")))
        for kind in ("image/png", "image/jpeg"):
            if kind in data:
                encoded = "".join(data[kind]).replace("\n", "")
                yield f'<img alt="{_alternative(printed)}" src="data:{kind};base64,{encoded}">'
                break
        else:
            if printed.strip():
                yield f"{FENCE}text\n{ANSI.sub('', printed).rstrip()}\n{FENCE}"


def _alternative(printed: str) -> str:
    return "picture" if printed.startswith("<") else printed.replace('"', "'")
