from __future__ import annotations

import logging
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
    """A copy of a bundle, in another folder under another name."""
    return Path(
        shutil.copytree(Path(bundle.__file__).parents[1] / "bundles" / "skipts", tmp_path / "mine", ignore=shutil.ignore_patterns("models"))
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--config_file", "{}/train.json"],
        ["--config_file={}/configs/train.json"],
        ["--epochs", "3", "--config_file", "['{}/train.json','/elsewhere/more.json']"],
    ],
)
def test_a_copy_that_is_run_is_its_own_root(unpacked, monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["run", *(word.format(unpacked) for word in words)])
    assert bundle.root("skipts") == str(unpacked)


def test_a_relative_config_file_is_meant_from_where_the_run_starts(unpacked, monkeypatch):
    monkeypatch.chdir(unpacked)
    monkeypatch.setattr(sys, "argv", ["run", "--config_file", "configs/train.json"])
    assert bundle.root("skipts") == str(unpacked)


@pytest.mark.parametrize("spoil", ["another bundle", "no metadata", "no config"])
def test_anybodys_config_file_is_no_root(unpacked, monkeypatch, spoil):
    config = unpacked / "train.json"
    if spoil == "another bundle":
        config.write_text(config.read_text().replace("mab.root('skipts')", "mab.root('rd4ad')"))
    elif spoil == "no metadata":
        (unpacked / "metadata.json").unlink()
    monkeypatch.setattr(sys, "argv", ["run", "--config_file", str(config if spoil != "no config" else unpacked / "train.yaml")])
    assert Path(bundle.root("skipts")) == Path(bundle.__file__).parents[1] / "bundles" / "skipts"
