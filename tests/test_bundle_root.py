from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from monai_anomaly.bundle_root import INSTALLED, check_output, root
from monai_anomaly.errors import OptionError

ROOT = Path(__file__).parents[1]


def test_root_is_beside_the_package_whatever_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(root("skipts")) == ROOT / "bundles" / "skipts"
    assert Path(root("nowhere")) == tmp_path / "bundles" / "nowhere"


@pytest.fixture
def unpacked(tmp_path):
    """A copy of a bundle, in another folder under another name, with files where the checkout has links; one config in YAML, too, which JSON is."""
    source = ROOT / "bundles" / "skipts"
    copy = Path(shutil.copytree(source, tmp_path / "mine", ignore=shutil.ignore_patterns("models")))
    shutil.copyfile(copy / "train.json", copy / "mine.yaml")
    return copy


@pytest.mark.parametrize("name", ["skipts", None])
@pytest.mark.parametrize(
    "words",
    [
        ["--config_file", "{}/train.json"],
        ["--config_file={}/configs/train.json"],
        ["--config_file={}/configs/evaluate.json"],
        ["--config_file", "{}/mine.yaml"],
        ["--epochs", "3", "--config_file", "['{}/train.json','/elsewhere/more.json']"],
    ],
)
def test_a_copy_that_is_run_is_its_own_root(unpacked, monkeypatch, words, name):
    monkeypatch.setattr(sys, "argv", ["run", *(word.format(unpacked) for word in words)])
    assert root(name) == str(unpacked)


@pytest.mark.parametrize("name", ["skipts", None])
def test_a_relative_config_file_is_meant_from_where_the_run_starts(unpacked, monkeypatch, name):
    monkeypatch.chdir(unpacked)
    monkeypatch.setattr(sys, "argv", ["run", "--config_file", "configs/train.json"])
    assert root(name) == str(unpacked)


@pytest.mark.parametrize("place", ["{}/evaluate.json", "{}/configs/evaluate.json"])
@pytest.mark.parametrize("name", ["skipts", "rd4ad"])
def test_a_shared_file_is_of_the_bundle_in_whose_folder_it_is_named(monkeypatch, name, place):
    """It is one file behind links, which are not followed."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["run", "--config_file", place.format(f"bundles/{name}")])
    assert Path(place.format(f"bundles/{name}")).resolve() == Path("bundles/common/evaluate.json").resolve()
    assert root() == os.path.abspath(f"bundles/{name}")


@pytest.mark.parametrize("words", [[], ["--config_file", "bundles/common/evaluate.json"], ["--config_file", "pyproject.toml"]])
def test_of_no_bundle_there_is_no_root(monkeypatch, words):
    """In Python nobody tells, and the folder of what is shared is no bundle."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["python", *words])
    with pytest.raises(OptionError, match="expected the bundle's folder, such as bundle_root='bundles/skipts'"):
        root()


@pytest.mark.parametrize("spoil", ["another bundle", "another way", "no metadata", "no config"])
def test_anybodys_config_file_is_no_root(unpacked, monkeypatch, spoil):
    config = unpacked / "train.json"
    if spoil.startswith("another"):
        config.write_text(config.read_text().replace("$mab.root('skipts')", "$mab.root('rd4ad')" if spoil == "another bundle" else "here"))
    elif spoil == "no metadata":
        (unpacked / "metadata.json").unlink()
    monkeypatch.setattr(sys, "argv", ["run", "--config_file", str(config if spoil != "no config" else unpacked / "train.yaml")])
    assert Path(root("skipts")) == ROOT / "bundles" / "skipts"


def test_nothing_is_written_into_the_installed_package(tmp_path):
    check_output(tmp_path)
    with pytest.raises(OptionError, match=r"inside the installed package.*python -m monai_anomaly bundle NAME --to DIR"):
        check_output(INSTALLED / "skipts" / "models")
