from __future__ import annotations

import logging
import shutil
import sys

import pytest
from support.bundles import BUNDLE

from monai_anomaly.command_line import begin
from monai_anomaly.errors import DataError, OptionError


def test_a_refusal_is_reported_as_its_sentence(caplog, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    begin()
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
    begin()
    try:
        raise ZeroDivisionError("a bug")
    except ZeroDivisionError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err


def test_an_error_that_is_its_own_cause_ends(capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    begin()
    try:
        try:
            raise TypeError("a bug")
        except TypeError as error:
            raise error from error
    except TypeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    assert "TypeError: a bug" in capsys.readouterr().err


def test_a_flag_that_none_of_several_configs_has_is_refused(monkeypatch):
    places = [BUNDLE / name for name in ("train.json", "multi_gpu_train.json")]
    several = "[" + ",".join(f"'{place}'" for place in places) + "]"
    command = ["run", "--config_file", several, "--epochs", "3", "--sync_batch_norm=False", "--train::dataloader::shuffle", "False"]
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "argv", command)
    begin()
    monkeypatch.setattr(sys, "argv", [*command, "--sync_batchnorm", "True"])
    with pytest.raises(OptionError, match="no flag --sync_batchnorm; did you mean --sync_batch_norm"):
        begin()


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".YAML", ".JSON"])
def test_flags_of_a_config_in_yaml_are_looked_at_too(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    config = shutil.copyfile(BUNDLE / "train.json", tmp_path / f"mine{suffix}")  # JSON is YAML
    monkeypatch.setattr(sys, "argv", ["run", "--config_file", str(config), "--epochz", "3"])
    with pytest.raises(OptionError, match=rf"mine{suffix} has no flag --epochz; did you mean --epochs"):
        begin()
    monkeypatch.setattr(sys, "argv", ["run", "--config_file", f"{config},{BUNDLE / 'multi_gpu_train.json'}", "--sync_batch_norm", "True"])
    begin()


@pytest.mark.parametrize("content", ["lr: 1", "", "- a list", "3", "{[", "a: !unknown b"])
def test_flags_of_somebodys_own_script_are_not_ours(tmp_path, monkeypatch, content):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    (tmp_path / "experiment.yaml").write_text(content)
    monkeypatch.setattr(sys, "argv", ["experiment.py", "--config_file", str(tmp_path / "experiment.yaml"), "--name", "first"])
    begin()


def test_a_false_that_would_count_as_true_is_refused(monkeypatch):
    config = str(BUNDLE / "train.json")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    for words, meant in (
        (["--amp", "false"], "amp False"), (["--refresh_batch_norm=true"], "refresh_batch_norm True"), (["--amp", "FALSE"], "amp False"),
        (["--amp=no"], "amp False"), (["--amp", "On"], "amp True"),
    ):  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["run", "--config_file", config, *words])
        with pytest.raises(OptionError, match=rf"is a text to MONAI's command line; expected --{meant}\."):
            begin()
    monkeypatch.setattr(sys, "argv", ["run", "--config_file", config, "--amp", "False"])
    begin()


def test_of_several_processes_the_others_are_quiet_about_what_all_do(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setenv("RANK", "1")
    loggers = [logging.getLogger(name) for name in ("", "monai_anomaly.data")]
    levels = [logger.level for logger in loggers]
    try:
        begin()
        assert [logging.getLogger(name).getEffectiveLevel() for name in ("monai_anomaly.training.record", "monai_anomaly.data.slices")] == [
            logging.ERROR,
            logging.WARNING,
        ]
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
