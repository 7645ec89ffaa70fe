"""What the five bundles share is one file, or the same text; what is documented is what there is."""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path

import pytest
from support.bundles import BUNDLES, SYSTEMS

SHARED = {"LICENSE", "evaluate.json", "inference.json", "logging.conf", "multi_gpu_inference.json", "multi_gpu_train.json"}
OF_A_SYSTEM = {"bundle_root", "network_def", "loss", "pseudo_anomaly", "optimizer", "settings"}
"""Keys of train.json that differ, beside the flags that the bundle's own document lists."""


def config(bundle: str, name: str = "train"):
    return json.loads((BUNDLES / bundle / f"{name}.json").read_text())


def documented(path: Path) -> set[str]:
    """The flags of train.json: those in a document's tables of three columns."""
    lines = (line for line in path.read_text().splitlines() if line.startswith("| `--") and line.count("|") == 4)
    return {word.strip("`,").removeprefix("--") for line in lines for word in line.split("|")[1].split()}


def own_flags(bundle: str) -> set[str]:
    return documented(BUNDLES / bundle / "docs" / "README.md")


def without_the_system(bundle: str):
    """train.json as far as it is not particular to the system."""
    train, own = copy.deepcopy(config(bundle)), own_flags(bundle)
    detector = train["network_def"]
    for name in {*detector["system"]} - {"teacher"}:
        del detector["system"][name]
    del detector["system"]["teacher"]["stages"]
    for options in (detector["anomaly_map"], train["settings"]):
        for name in own & {*options}:
            del options[name]
    shared = {key: value for key, value in train.items() if key not in own | OF_A_SYSTEM}
    return shared | {"network_def": detector, "settings": train["settings"]}


@pytest.mark.parametrize("bundle", sorted({*SYSTEMS} - {"skipts"}))
def test_what_is_not_particular_to_a_system_is_the_same_text(bundle):
    """Order included: a reader finds everything in the same place."""
    ours, theirs = without_the_system(bundle), without_the_system("skipts")
    assert [*ours] == [*theirs]
    for key, value in theirs.items():
        assert json.dumps(ours[key]) == json.dumps(value), key
    assert {"train", "validate", "record", "checkpoint", "evaluation", "identity", "complete", "cache", "initialize", "run"} <= set(theirs)


@pytest.mark.parametrize("bundle", SYSTEMS)
def test_what_makes_the_system_itself_stands_first(bundle):
    keys = [*config(bundle)]
    own = own_flags(bundle) | OF_A_SYSTEM - {"settings", "bundle_root"}
    assert config(bundle)["bundle_root"] == f"$mab.root('{bundle}')" and own <= {*keys}
    assert max(map(keys.index, own)) < keys.index("image_size") < keys.index("settings") < keys.index("train")


@pytest.mark.parametrize("bundle", SYSTEMS)
def test_every_flag_is_documented_once_and_recorded(bundle):
    own, common, several = own_flags(bundle), documented(BUNDLES / "common" / "README.md"), config(bundle, "multi_gpu_train")
    train = config(bundle)
    assert not own & common and own | common <= {*train, *several}, (own | common) - {*train, *several}
    added = {name.removeprefix("settings#"): value for name, value in several.items() if name.startswith("settings#")}
    assert {*added} <= common and all(value == f"@{name}" for name, value in added.items())
    assert {*train["settings"]} <= own | common and all(value == f"@{name}" for name, value in train["settings"].items())
    plain = {key for key, value in train.items() if not isinstance(value, dict) and key not in OF_A_SYSTEM}
    computed = {"imports", "on_gpu", "rank", "network", "cases", "split", "validation_cases", "duplicates", "initialize", "run"}
    assert plain - computed <= own | common, plain - computed - own - common


@pytest.mark.parametrize("bundle", SYSTEMS)
def test_what_can_be_shared_as_a_file_is_one_file(bundle):
    folder = BUNDLES / bundle
    links = {path.name: os.readlink(path) for path in folder.iterdir() if path.is_symlink()}
    assert (
        links == {name: f"../common/{name}" for name in SHARED} and os.readlink(folder / "docs" / "shared.md") == "../../common/README.md"
    )
    assert {path.name for path in (BUNDLES / "common").iterdir()} == SHARED | {"README.md"}
    files = {path.name for path in folder.iterdir() if path.suffix in (".json", ".conf")}
    assert files >= SHARED - {"LICENSE"} | {"train.json", "metadata.json"}
    assert {path.name: os.readlink(path) for path in (folder / "configs").iterdir()} == {name: f"../{name}" for name in files}
    for name in files:
        assert (folder / "configs" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("bundle", SYSTEMS)
def test_a_document_names_its_own_commands_and_links_that_exist(bundle):
    text = (BUNDLES / bundle / "docs" / "README.md").read_text()
    assert {*re.findall(r"bundles/(\w+)/\w+\.json", text)} == {bundle}
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (BUNDLES / bundle / "docs" / target).is_file(), target


def test_blocks_that_the_three_configs_share_are_equal():
    train, evaluate, inference = (config("skipts", name) for name in ("train", "evaluate", "inference"))
    for block in ("preprocessing", "slice_preprocessing"):
        assert train["train"][block] == evaluate["validate"][block] == inference[block]
    assert train["cache"] == evaluate["cache"] == inference["cache"]
    for key in set(evaluate) & set(inference) - {"imports", "output_dir", "run", "handlers"}:
        assert evaluate[key] == inference[key], key
