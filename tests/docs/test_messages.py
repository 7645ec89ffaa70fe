"""Troubleshooting leaves out no message: each sentence that the package can refuse something with is in the list, and advice is on messages there are."""

from __future__ import annotations

import ast
import html
import re
from pathlib import Path

import pytest
from support.repository import ROOT, module

import monai_anomaly.data.sources
from monai_anomaly import errors
from monai_anomaly.pickle_claims import ForeignPickleError

messages = module("docs/plugins/messages.py")
PACKAGE = ROOT / "monai_anomaly"
SOURCES = sorted(path for path in PACKAGE.rglob("*.py"))


def known_errors() -> set[str]:
    """Their names, as Python itself derives them; MONAI Label's needs an environment of its own."""
    assert issubclass(monai_anomaly.data.sources.RefusedFilesError, errors.AnomalyError)
    found, new = {"RequestError", ForeignPickleError.__name__}, [errors.AnomalyError]
    while new:
        kind = new.pop()
        found.add(kind.__name__)
        new += kind.__subclasses__()
    return found


def raised(path: Path) -> list[tuple[int, str, ast.Call]]:
    """Line, class and call of each ``raise`` of ours."""
    known, found = known_errors(), []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        call = node.exc if isinstance(node, ast.Raise) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in known:
            found.append((node.lineno, call.func.id, call))
    return found


def pieces(call: ast.Call) -> list[str]:
    """What is literal in the sentence, long enough to know it by."""
    texts = (node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [text.strip() for text in texts if len(text.strip()) > 12]


@pytest.fixture(scope="module")
def page() -> str:
    """The list as it is read: without marks of Markdown."""
    return re.sub(r"\\([\\`*_\[\]])", r"\1", html.unescape(messages.message_list(ROOT)))


def test_no_raise_is_left_out(page):
    count = 0
    for path in SOURCES:
        for line, kind, call in raised(path):
            count += 1
            for piece in pieces(call):
                assert piece in page, (path.name, line, kind, piece)
    assert count > 350


def test_every_raise_has_words_of_its_own_or_passes_others_on():
    silent = {str(path.relative_to(PACKAGE)) for path in SOURCES for *_, call in raised(path) if not pieces(call)}
    assert silent <= {
        "label/refusals.py",  # the sentence of another error, for the client
        "data/sources.py",  # the reasons of its files
        "inference.py",  # the same, of a study
        "data/dicom/read.py",  # the same, with the slice's number
        "data/dicom/grid.py",  # the same
        "data/datalist.py",  # the same, of a mask
        "pickle_claims.py",  # short words that complete a sentence
        "state_file.py",  # the same
    }, silent


def test_errors_that_functions_return_are_there_too(page):
    for words in (
        "need about",
        "The image cannot be decoded",
        "that this training writes",
        "Its name in the archive",
        "cannot be read: it",
    ):
        assert words in page, words


def test_a_new_kind_of_error_is_found_by_its_base():
    tree = ast.parse("class A(DataError): ...\nclass B(A): ...\nclass C(ValueError): ...\nclass DataError(AnomalyError): ...")
    assert {"A", "B", "DataError"} <= messages._error_classes([tree]) and "C" not in messages._error_classes([tree])


def test_advice_is_on_messages_that_there_are():
    texts = [message.text for message in messages.find_messages(ROOT)]
    advised = messages.advised(ROOT)
    assert len(advised) > 40
    for start in advised:
        assert any(text.startswith(start) for text in texts), start


def test_every_kind_is_explained():
    text = (ROOT / "docs" / "messages.md").read_text(encoding="utf-8")
    for name in {*errors.__all__, "RequestError"} - {"error_chain", "find_anomaly_error", "reason", "unwrapped"}:
        assert f"*{name}*" in text, name
