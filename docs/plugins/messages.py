"""Every message that the package can refuse something with, read from its source, so that the list is complete by construction."""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from markdown.extensions.toc import slugify

PACKAGE = "monai_anomaly"
BASE = "AnomalyError"
FRAGMENTS = "ForeignPickleError"
"""Its messages complete a sentence that begins with the file's name."""
TITLES = {
    "data": "Reading data", "transforms": "Transforms", "networks": "Networks and weights", "losses": "Losses", "scoring": "Scores and calibration",
    "metrics": "Metrics", "evaluation": "Scoring scans", "training": "Training, models, going on", "writers": "Writing results", "report": "Pictures",
    "export": "Export", "compare": "Comparisons", "label": "MONAI Label and PACS", "": "Commands, bundles, files of weights",
}  # fmt: skip
"""Packages in the way of the data."""
GAP = "…"


class Message(NamedTuple):
    """A sentence, with a gap for each thing that it fills in."""

    module: str
    """Path below the package."""
    line: int
    kind: str
    """The error's class; ``""`` for the reason that a refused file gets in the tables."""
    text: str


def find_messages(root: Path) -> list[Message]:
    """All of them, by module and line.

    Args:
        root: of the repository.
    """
    trees = {path: ast.parse(path.read_text("utf-8")) for path in sorted((root / PACKAGE).rglob("*.py"))}
    kinds = _error_classes(trees.values())
    found = {
        Message(path.relative_to(root / PACKAGE).as_posix(), line, kind, text)
        for path, tree in trees.items()
        for line, kind, text in _of_module(tree, kinds)
    }
    return sorted(found, key=lambda message: (_place(message.module), message.module, message.line))


def message_list(root: Path) -> str:
    """Markdown: one section for each package, one list for each module; messages with advice link to it."""
    advice, parts = advised(root), []
    for (_, package), in_package in groupby(find_messages(root), key=lambda message: _place(message.module)):
        parts.append(f"## {TITLES[package]}")
        for module, messages in groupby(in_package, key=lambda message: message.module):
            first = (ast.get_docstring(ast.parse((root / PACKAGE / module).read_text("utf-8"))) or "").splitlines()[0].rstrip(".")
            parts.append(f"### `{module}`\n\n{_escaped(first.replace('``', ''))}.")
            parts.append("\n".join(_item(message, advice) for message in messages))
    return "\n\n".join(parts)


def advised(root: Path) -> dict[str, str]:
    """Quoted beginnings of messages in the hand-written page, with the section that they stand in.

    Args:
        root: of the repository.
    """
    section, found = "", {}
    for line in (root / "docs" / "troubleshooting.md").read_text("utf-8").splitlines():
        if line.startswith("#"):
            section = slugify(line.lstrip("# ").replace("`", ""), "-")
        elif line.startswith("> "):
            found[line[2:].strip()] = section
    return found


def _item(message: Message, advice: dict[str, str]) -> str:
    more = next((f" [More](troubleshooting.md#{section})" for start, section in advice.items() if message.text.startswith(start)), "")
    kind = f"*{message.kind}*: " if message.kind and message.kind != FRAGMENTS else ""
    return f"* {kind}{GAP + ' ' if message.kind == FRAGMENTS else ''}{_escaped(message.text)}{more}"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]])", r"\\\1", html.escape(text, quote=False)).replace("\n", " ")


def _place(module: str) -> tuple[int, str]:
    package = module.split("/")[0] if "/" in module else ""
    return [*TITLES].index(package), package


def _error_classes(trees: Iterable[ast.Module]) -> set[str]:
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    known = {BASE, FRAGMENTS}
    while more := {name for name, parents in bases.items() if parents & known} - known:
        known |= more
    return known


def _of_module(tree: ast.Module, kinds: set[str]) -> Iterator[tuple[int, str, str]]:
    seen, named = _silent(tree), _named_texts(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and (node.func.id in kinds or node.func.id == "_refusal"):
            seen |= {id(part) for part in ast.walk(node)}
            arguments = [_text(argument, named) for argument in node.args]
            text = next((text for text in arguments if re.search(r"\w{2}", text)), "")
            if text:
                yield node.lineno, node.func.id if node.func.id in kinds else "", re.sub(" {2,}", " ", text)
    for node in ast.walk(tree):
        # Reasons that are returned or named: whatever says what was expected.
        if id(node) not in seen and isinstance(node, ast.Constant | ast.JoinedStr) and "; expected " in (text := _text(node, named)):
            yield node.lineno, "", text


def _silent(tree: ast.Module) -> set[int]:
    """Docstrings, log lines, and pieces of f-strings, which belong to their whole."""
    parts: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            parts.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            parts |= {id(value) for value in node.values}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger."):
            parts |= {id(part) for part in ast.walk(node)}
    return parts


def _named_texts(tree: ast.Module) -> dict[str, str]:
    """Texts that a module names, because several of its messages have them."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Constant | ast.JoinedStr):
            text = _text(node.value, found)
            if text != GAP:
                found[node.targets[0].id] = text
    return found


def _text(node: ast.expr, named: dict[str, str]) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str) else GAP
    if isinstance(node, ast.Name):
        return named.get(node.id, GAP)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, named) if isinstance(node.value, ast.Name | ast.IfExp | ast.BoolOp) else GAP
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value, named) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, named) + _text(node.right, named)
    if isinstance(node, ast.BoolOp):
        return _either(_text(value, named) for value in node.values)
    if isinstance(node, ast.IfExp):
        return _either(_text(value, named) for value in (node.body, node.orelse))
    return GAP


def _either(texts: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(text for text in texts if text))
