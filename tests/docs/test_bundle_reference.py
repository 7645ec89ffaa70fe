"""The reference of bundles cannot lie: each key is in it, each key in it exists, and defaults are those of the configs."""

from __future__ import annotations

import json
import re

import pytest
from support.bundles import BUNDLES, SYSTEMS
from support.repository import ROOT, module

flags = module("docs/plugins/flags.py")
REFERENCE = (ROOT / "docs" / "bundle_reference.md").read_text(encoding="utf-8")
SHARED = BUNDLES / "common" / "README.md"


def config(bundle: str, name: str) -> dict:
    return json.loads((BUNDLES / bundle / f"{name}.json").read_text())


def section(title: str) -> str:
    return re.split(r"^## ", REFERENCE.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def named(text: str) -> set[str]:
    """What is set as code."""
    return set(re.findall(r"`([^`]+)`", text))


def in_first_cells(text: str, column: int = 1) -> set[str]:
    return {name for line in text.splitlines() if line.startswith("|") for name in named(cells(line)[column - 1])}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def keys(content: dict, *nested: str) -> set[str]:
    below = {f"{name}#{key}" for name in nested for key in content.get(name, {})}
    return {*content} - {*nested} | below


def test_train():
    every = set().union(*(keys(config(bundle, "train"), "train", "validate") for bundle in SYSTEMS))
    of_flags = set(flags.documented(SHARED)).union(*(flags.documented(BUNDLES / bundle / "docs" / "README.md") for bundle in SYSTEMS))
    assert in_first_cells(section("Keys of train.json")) == every - of_flags | {"train", "validate"}


@pytest.mark.parametrize("name", ["evaluate", "inference"])
def test_evaluate_and_inference(name):
    told = named(section("Keys of evaluate.json")) | in_first_cells(flags.scoring_flag_table(ROOT))
    if name == "inference":
        told |= named(section("Keys of inference.json"))
    told |= {flag.removeprefix("--") for flag in told}
    assert keys(config("skipts", name), "validate") <= told
    listed = in_first_cells(section(f"Keys of {name}.json"))
    assert listed <= keys(config("skipts", name), "validate"), listed - keys(config("skipts", name), "validate")


def test_overlays():
    told = in_first_cells(section("Keys of the overlays"), column=2)
    every = set().union(*(config("skipts", name) for name in ("multi_gpu_train", "multi_gpu_inference", "traditional_kd")))
    assert told == every


@pytest.mark.parametrize(("bundle", "name"), [*((bundle, "train") for bundle in SYSTEMS), ("skipts", "evaluate"), ("skipts", "inference")])
def test_every_part_is_named(bundle, name):
    content = {
        key: value for key, value in config(bundle, name).items() if key not in ("network_def", "loss", "pseudo_anomaly", "optimizer")
    }
    targets = set(re.findall(r'"_target_": "(monai_anomaly\.[\w.]+)"', json.dumps(content)))
    short = {target for target in targets if target.rsplit(".", 1)[-1] in REFERENCE or target in flags.flag_table(ROOT)}
    assert len(targets) > 5
    assert targets - short <= {"monai_anomaly.training.identify", "monai_anomaly.training.is_complete"}  # `identity` and `complete`


@pytest.mark.parametrize(("column", "name"), [(2, "evaluate"), (3, "inference")])
def test_defaults_of_evaluate_and_inference(column, name):
    content, seen = config("skipts", name), 0
    for line in flags.scoring_flag_table(ROOT).splitlines():
        if not line.startswith("| `--") or not cells(line)[column - 1]:
            continue
        value, told = content[cells(line)[0].strip("`-")], cells(line)[column - 1]
        if not isinstance(value, str):
            assert told == json.dumps(value), line
        elif told.startswith("`"):
            assert told.strip("`") in value.replace("@", ""), line
        seen += 1
    assert seen >= 12


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?", text)]


@pytest.mark.parametrize("bundle", SYSTEMS)
def test_defaults_that_the_documents_tell_are_those_of_train_json(bundle):
    content, several, seen = config(bundle, "train"), config(bundle, "multi_gpu_train"), 0
    for document in (SHARED, BUNDLES / bundle / "docs" / "README.md"):
        for row, default, _ in flags.ROW.findall(document.read_text(encoding="utf-8")):
            for flag in re.findall(r"`--(\w+)`", row):
                value = content.get(flag, several.get(flag))
                if isinstance(value, bool):
                    assert str(value).lower() in default, (flag, default)
                elif isinstance(value, int | float | list):
                    assert set(numbers(json.dumps(value))) <= set(numbers(default)), (flag, default)
                elif isinstance(value, str) and (either := flags.CONDITION.fullmatch(value)):
                    assert all(part.strip("' ") in default for part in either.groups()), (flag, default)
                elif isinstance(value, str) and value[0] not in "$@":
                    assert value in default, (flag, default)
                else:
                    continue
                seen += 1
    assert seen > 20


def test_the_table_has_each_flag_once_with_a_default_and_a_meaning():
    rows = flags.flag_table(ROOT).splitlines()[2:]
    told = [row.split(" | ")[0].strip("| `-") for row in rows]
    of_flags = set(flags.documented(SHARED)).union(*(flags.documented(BUNDLES / bundle / "docs" / "README.md") for bundle in SYSTEMS))
    assert len(told) == len({*told}) and {*told} == of_flags
    assert all(cell for row in rows for cell in cells(row))
