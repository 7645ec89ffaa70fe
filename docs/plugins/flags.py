"""Flags of the five train.json with their defaults, read from the configs, and the meaning that the bundles' documents give; those of the other configs."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROW = re.compile(r"^\| (`--[^|\n]*?) \| ([^|\n]*?) \| ([^|\n]*) \|$", re.MULTILINE)
"""Three cells: a flag of train.json."""
SCORING = re.compile(r"^\| flag \| `evaluate\.json` \| .*(?:\n\|.*)+", re.MULTILINE)
CONDITION = re.compile(r"\$(.+) if @on_gpu else (.+)")
KNOWN = {
    "$str(mad.builtin_study())": "the built-in study",
    "$@bundle_root + '/models'": "`bundles/NAME/models`",
    "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')": "the GPU if there is one",
    "$not @on_gpu": "false on a GPU, true on a CPU",
    "@on_gpu": "true on a GPU, false on a CPU",
}


def flag_table(root: Path) -> str:
    """Markdown table: flag, default in each bundle, meaning, in the order of train.json.

    Args:
        root: of the repository.
    """
    bundles = sorted(path.parent.name for path in (root / "bundles").glob("*/train.json"))
    configs = {name: json.loads((root / "bundles" / name / "train.json").read_text("utf-8")) for name in bundles}
    several = json.loads((root / "bundles" / "common" / "multi_gpu_train.json").read_text("utf-8"))
    shared = documented(root / "bundles" / "common" / "README.md")
    own = {name: documented(root / "bundles" / name / "docs" / "README.md") for name in bundles}
    order = dict.fromkeys(key for config in (*configs.values(), several) for key in config)
    lines = ["| flag | default | meaning |", "|---|---|---|"]
    for key in order:
        in_files = [name for name in bundles if key in configs[name] or key in several]
        meanings = {name: told for name in in_files if (told := own[name].get(key, shared.get(key))) is not None}
        if meanings:
            defaults = {name: _in_words(configs[name].get(key, several.get(key))) for name in meanings}
            lines.append(f"| `--{key}` | {_by_bundle(defaults, bundles)} | {_by_bundle(meanings, bundles)} |")
    return "\n".join(lines)


def scoring_flag_table(root: Path) -> str:
    """Markdown table of the flags of evaluate.json and inference.json, as the shared document has it.

    Args:
        root: of the repository.
    """
    tables = SCORING.findall((root / "bundles" / "common" / "README.md").read_text("utf-8"))
    assert len(tables) == 1, "bundles/common/README.md has the table of these flags once"
    return str(tables[0])


def documented(document: Path) -> dict[str, str]:
    """What a document's tables say of each flag of train.json; of a row of several flags each gets the whole.

    Args:
        document: a Markdown file.
    """
    rows = ROW.findall(document.read_text("utf-8"))
    return {flag: meaning for flags, _, meaning in rows for flag in re.findall(r"`--(\w+)`", flags)}


def _in_words(value: object) -> str:
    if isinstance(value, str) and (either := CONDITION.fullmatch(value)):
        return f"{_plain(either[1])} on a GPU, {_plain(either[2])} on a CPU"
    if value is None:
        return "none"
    if isinstance(value, dict):
        return f"computed by `{value['_target_']}`"
    if isinstance(value, str):
        return KNOWN.get(value, f"`{value}`")
    return f"`{json.dumps(value)}`"


def _plain(expression: str) -> str:
    return f"`{expression.strip()}`".replace("'", "")


def _by_bundle(texts: dict[str, str], bundles: list[str]) -> str:
    groups: dict[str, list[str]] = {}
    for name, text in texts.items():
        groups.setdefault(text, []).append(name)
    if len(groups) == 1 and len(texts) == len(bundles):
        return next(iter(groups))
    return "<br>".join(f"{', '.join(names)}: {text}" if text else ", ".join(names) for text, names in groups.items())
