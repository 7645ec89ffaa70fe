"""What the documents say can be typed: links lead somewhere, commands name configs, scripts and flags that exist."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import monai.bundle
import pytest

from monai_anomaly.__main__ import main

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("bundles/*/docs/README.md"),
        ROOT / "bundles/common/README.md",
        ROOT / "apps/anomaly/README.md",
        ROOT / "benchmarks/README.md",
    ]
)


def commands(marks: str) -> list[tuple[str, str, str]]:
    """Document, first match of ``marks`` and what follows it, for each line of each block of commands."""
    found = []
    for document in DOCUMENTS:
        for block in re.findall(r"```bash\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                for match in re.finditer(rf"{marks}([^#]*)", line):
                    found.append((str(document.relative_to(ROOT)), *match.groups()))
    return found


def flags(words: str) -> set[str]:
    return set(re.findall(r"(?<!\S)--(\w+)", words))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (document.parent / target).exists(), target


def test_commands_of_monai_name_configs_and_flags_that_exist():
    found = commands(r"-m monai\.bundle (\w+)")
    assert len(found) > 30
    for document, verb, words in found:
        known = set(inspect.signature(getattr(monai.bundle, verb)).parameters)
        for config in re.findall(r"bundles/\w+/\w+\.json", words):
            known |= {re.split("[#:]", key.removeprefix("+"))[0] for key in json.loads((ROOT / config).read_text())}
        assert flags(words) <= known, (document, verb, flags(words) - known)
        assert not re.search(r"\b(true|false)\b", words), (document, "a text that MONAI takes for true", words)


def test_verbs_and_scripts_take_the_flags_that_are_told(capsys):
    for document, verb, words in commands(r"-m monai_anomaly (\w+)"):
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        assert flags(words) <= flags(capsys.readouterr().out.replace("[", " ")), (document, verb)
    scripts = commands(r"python (\S+\.py)")
    assert len(scripts) > 3
    for document, script, words in scripts:
        source = (ROOT / script).read_text()
        assert all(f'"--{name}"' in source for name in flags(words)), (document, script, words)
