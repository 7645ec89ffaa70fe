from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path

import pytest

from monai_anomaly import bundle
from monai_anomaly.errors import DataError, OptionError


def test_root_is_beside_the_package_whatever_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(bundle.root("skipts")) == Path(bundle.__file__).parents[1] / "bundles" / "skipts"
    assert Path(bundle.root("nowhere")) == tmp_path / "bundles" / "nowhere"


def test_a_refusal_is_reported_as_its_sentence(caplog, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    bundle.begin()
    try:
        try:
            raise DataError("scan 7 is empty")
        except DataError as error:
            raise RuntimeError("Failed to evaluate") from error
    except RuntimeError as error:
        sys.excepthook(type(error), error, None)
    assert [record.getMessage() for record in caplog.records] == ["scan 7 is empty"]


def test_other_errors_keep_their_traceback(capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    bundle.begin()
    try:
        raise ZeroDivisionError("a bug")
    except ZeroDivisionError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err


def test_an_error_that_is_its_own_cause_ends(capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    bundle.begin()
    try:
        try:
            raise TypeError("a bug")
        except TypeError as error:
            raise error from error
    except TypeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    assert "TypeError: a bug" in capsys.readouterr().err


def test_a_flag_that_none_of_several_configs_has_is_refused(monkeypatch):
    places = [Path(bundle.__file__).parents[1] / "bundles" / "skipts" / name for name in ("train.json", "multi_gpu_train.json")]
    several = "[" + ",".join(f"'{place}'" for place in places) + "]"
    command = ["run", "--config_file", several, "--epochs", "3", "--sync_batch_norm=False", "--train::dataloader::shuffle", "False"]
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "argv", command)
    bundle.begin()
    monkeypatch.setattr(sys, "argv", [*command, "--sync_batchnorm", "True"])
    with pytest.raises(OptionError, match="no flag --sync_batchnorm; did you mean --sync_batch_norm"):
        bundle.begin()


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".YAML", ".JSON"])
def test_flags_of_a_config_in_yaml_are_looked_at_too(unpacked, monkeypatch, suffix):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    config = (unpacked / "train.json").rename(unpacked / f"mine{suffix}")  # JSON is YAML
    monkeypatch.setattr(sys, "argv", ["run", "--config_file", str(config), "--epochz", "3"])
    with pytest.raises(OptionError, match=rf"mine{suffix} has no flag --epochz; did you mean --epochs"):
        bundle.begin()
    monkeypatch.setattr(sys, "argv", ["run", "--config_file", f"{config},{unpacked / 'multi_gpu_train.json'}", "--sync_batch_norm", "True"])
    bundle.begin()


@pytest.mark.parametrize("content", ["lr: 1", ""])
def test_flags_of_somebodys_own_script_are_not_ours(tmp_path, monkeypatch, content):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    (tmp_path / "experiment.yaml").write_text(content)
    monkeypatch.setattr(sys, "argv", ["experiment.py", "--config_file", str(tmp_path / "experiment.yaml"), "--name", "first"])
    bundle.begin()


def test_a_false_that_would_count_as_true_is_refused(monkeypatch):
    config = str(Path(bundle.root("skipts")) / "train.json")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    for words, meant in (
        (["--amp", "false"], "amp False"), (["--refresh_batch_norm=true"], "refresh_batch_norm True"), (["--amp", "FALSE"], "amp False"),
        (["--amp=no"], "amp False"), (["--amp", "On"], "amp True"),
    ):  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["run", "--config_file", config, *words])
        with pytest.raises(OptionError, match=rf"is a text to MONAI's command line; expected --{meant}\."):
            bundle.begin()
    monkeypatch.setattr(sys, "argv", ["run", "--config_file", config, "--amp", "False"])
    bundle.begin()


def test_of_several_processes_the_others_are_quiet_about_what_all_do(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setenv("RANK", "1")
    loggers = [logging.getLogger(name) for name in ("", "monai_anomaly.data")]
    levels = [logger.level for logger in loggers]
    try:
        bundle.begin()
        assert [logging.getLogger(name).getEffectiveLevel() for name in ("monai_anomaly.training.record", "monai_anomaly.data.slices")] == [
            logging.ERROR,
            logging.WARNING,
        ]
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@pytest.fixture
def unpacked(tmp_path):
    """A copy of a bundle, in another folder under another name, with files where the checkout has links; one config in YAML, too, which JSON is."""
    source = Path(bundle.__file__).parents[1] / "bundles" / "skipts"
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
    assert bundle.root(name) == str(unpacked)


@pytest.mark.parametrize("name", ["skipts", None])
def test_a_relative_config_file_is_meant_from_where_the_run_starts(unpacked, monkeypatch, name):
    monkeypatch.chdir(unpacked)
    monkeypatch.setattr(sys, "argv", ["run", "--config_file", "configs/train.json"])
    assert bundle.root(name) == str(unpacked)


@pytest.mark.parametrize("place", ["{}/evaluate.json", "{}/configs/evaluate.json"])
@pytest.mark.parametrize("name", ["skipts", "rd4ad"])
def test_a_shared_file_is_of_the_bundle_in_whose_folder_it_is_named(monkeypatch, name, place):
    """It is one file behind links, which are not followed."""
    monkeypatch.chdir(Path(bundle.__file__).parents[1])
    monkeypatch.setattr(sys, "argv", ["run", "--config_file", place.format(f"bundles/{name}")])
    assert Path(place.format(f"bundles/{name}")).resolve() == Path("bundles/common/evaluate.json").resolve()
    assert bundle.root() == os.path.abspath(f"bundles/{name}")


@pytest.mark.parametrize("words", [[], ["--config_file", "bundles/common/evaluate.json"], ["--config_file", "pyproject.toml"]])
def test_of_no_bundle_there_is_no_root(monkeypatch, words):
    """In Python nobody tells, and the folder of what is shared is no bundle."""
    monkeypatch.chdir(Path(bundle.__file__).parents[1])
    monkeypatch.setattr(sys, "argv", ["python", *words])
    with pytest.raises(OptionError, match="expected the bundle's folder, such as bundle_root='bundles/skipts'"):
        bundle.root()


@pytest.mark.parametrize("spoil", ["another bundle", "another way", "no metadata", "no config"])
def test_anybodys_config_file_is_no_root(unpacked, monkeypatch, spoil):
    config = unpacked / "train.json"
    if spoil.startswith("another"):
        config.write_text(config.read_text().replace("$mab.root('skipts')", "$mab.root('rd4ad')" if spoil == "another bundle" else "here"))
    elif spoil == "no metadata":
        (unpacked / "metadata.json").unlink()
    monkeypatch.setattr(sys, "argv", ["run", "--config_file", str(config if spoil != "no config" else unpacked / "train.yaml")])
    assert Path(bundle.root("skipts")) == Path(bundle.__file__).parents[1] / "bundles" / "skipts"


def test_training_cases_from_outside_are_refused():
    own = [{"image": "a", "series": "a", "split": "train"}]
    bundle.check_cases(own, [dict(case) for case in own])
    for other in ([], [{"image": "a", "label": "lesion.nii.gz"}]):  # as MONAI Label's app monaibundle hands in what was labelled
        with pytest.raises(OptionError, match=rf"replaced by {len(other)} other cases.*apps/anomaly"):
            bundle.check_cases(other, own)
