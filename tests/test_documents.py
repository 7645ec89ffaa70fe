"""What the documents say can be typed: links lead somewhere, commands name configs, scripts and flags that exist."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import monai.bundle
import pytest
from support.repository import ROOT

from monai_anomaly.__main__ import main

DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("tutorials/*.md"),
        *ROOT.glob("tutorials/*.ipynb"),
        *ROOT.glob("bundles/*/docs/README.md"),
        ROOT / "bundles/common/README.md",
        ROOT / "apps/anomaly/README.md",
        ROOT / "benchmarks/README.md",
    ]
)


OTHERS = {
    "monailabel": {"app", "conf", "host", "port", "studies"},
    "pip": {"find-links", "no-deps", "no-index"},
    "torchrun": {"nnodes", "nproc_per_node", "rdzv_backend", "rdzv_endpoint", "rdzv_id", "standalone"},
}
"""Flags of programs that are not ours."""


def text_of(document: Path) -> str:
    """What people read and click: of a notebook its cells of text."""
    text = document.read_text(encoding="utf-8")
    if document.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def anchors(document: Path) -> set[str]:
    """Places that a link may end in: headings, as GitHub calls them."""
    headings = re.findall(r"(?m)^#+ +(.+?) *$", re.sub(r"```.*?```", "", text_of(document), flags=re.DOTALL))
    words = [re.sub(r"\]\([^)]*\)", "", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in words}


def commands(marks: str) -> list[tuple[str, str, str]]:
    """Document, first match of ``marks`` and what follows it, for each line of each block of commands, and for each command within a sentence."""
    found = []
    for document in DOCUMENTS:
        text = text_of(document)
        blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        for line in "\n".join([*blocks, *in_sentences(text)]).replace("\\\n", " ").splitlines():
            for match in re.finditer(rf"{marks}((?:[^#]|(?<=\w)#)*)", line):
                found.append((str(document.relative_to(ROOT)), *match.groups()))
    return found


def in_sentences(text: str) -> list[str]:
    """What is set as code outside of blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def flags(words: str) -> set[str]:
    return set(re.findall(r"(?<!\S)--(\w+)", words))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)\s]+)", text_of(document)):
        path, _, anchor = target.partition("#")
        if target.startswith("https://"):
            continue
        place = document.parent / path if path else document
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_that_are_named_exist(document):
    missing = {name for name in re.findall(r"\btests/[\w/]+\.py", text_of(document)) if not (ROOT / name).is_file()}
    assert not missing, missing


def test_an_anchor_is_a_heading_as_github_calls_it(tmp_path):
    (tmp_path / "a.md").write_text("# One\n\n## What `--x` is, and [why](b.md)\n\n```bash\n# no heading\n```\n")
    cells = [{"cell_type": "markdown", "source": ["## 2. In a\n", "text"]}, {"cell_type": "code", "source": ["# none"]}]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    assert anchors(tmp_path / "a.md") == {"one", "what---x-is-and-why"} and anchors(tmp_path / "a.ipynb") == {"2-in-a"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_section_stands_twice(document):
    text = re.sub(r"```.*?```", "", text_of(document), flags=re.DOTALL)
    sections = re.findall(r"(?m)^## .+$", text)
    assert len(sections) == len(set(sections)), sections


def test_commands_of_monai_name_configs_and_flags_that_exist():
    found = commands(r"-m monai\.bundle (\w+)")
    assert len(found) > 30
    for document, verb, words in found:
        known = set(inspect.signature(getattr(monai.bundle, verb)).parameters)
        for config in re.findall(r"(?:bundles|mine)/(\w+/\w+\.json)", words):  # mine: a copy
            known |= {re.split("[#:]", key.removeprefix("+"))[0] for key in json.loads((ROOT / "bundles" / config).read_text())}
        assert flags(words) <= known, (document, verb, flags(words) - known)
        assert not re.search(r"\b(true|false)\b", words), (document, "a text that MONAI takes for true", words)


def test_verbs_and_scripts_take_the_flags_that_are_told(capsys):
    found = commands(r"-m monai_anomaly (\w+)")
    assert len(found) > 30
    for document, verb, words in found:
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        assert flags(words) <= flags(capsys.readouterr().out.replace("[", " ")), (document, verb)
    scripts = commands(r"python (\S+\.py)")
    assert len(scripts) > 3
    for document, script, words in scripts:
        source = (ROOT / script).read_text()
        assert all(f'"--{name}"' in source for name in flags(words)), (document, script, words)


def test_flags_that_sentences_name_exist(capsys):
    verbs = ("run", "verify_metadata", "verify_net_in_out", "ckpt_export", "onnx_export")
    known = {name for verb in verbs for name in inspect.signature(getattr(monai.bundle, verb)).parameters}.union(*OTHERS.values())
    for config in ROOT.glob("bundles/*/*.json"):
        known |= {re.split("[#:]", key.removeprefix("+"))[0] for key in json.loads(config.read_text())}
    for verb in ("cost", "study", "index", "export", "bundle", "pack", "compare"):
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        known |= flags(capsys.readouterr().out.replace("[", " "))
    for script in ROOT.glob("benchmarks/*.py"):
        known |= set(re.findall(r'"--(\w+)"', script.read_text()))
    for document in {*DOCUMENTS} - {ROOT / "CHANGELOG.md"}:  # of earlier versions, too
        for code in in_sentences(text_of(document)):
            if code.startswith(("--", "python -m monai")):
                named = set(re.findall(r"(?<!\S)--([\w-]+)", code))
                assert named <= known, (document, code, named - known)


def test_the_site_names_pages_that_exist_and_every_document():
    yaml = pytest.importorskip("yaml")
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

    def pages(entry):
        if isinstance(entry, str):
            return [entry]
        return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages(part)]

    named = pages(site["nav"])
    assert len(named) == len({*named})
    missing = [page for page in named if not (ROOT / page).is_file()]
    assert not missing, missing
    assert {str(document.relative_to(ROOT)) for document in DOCUMENTS} - {*named} <= {"apps/anomaly/README.md"}
