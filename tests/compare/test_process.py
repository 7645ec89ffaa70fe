from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from fire.parser import DefaultParseValue

from monai_anomaly.compare import process
from monai_anomaly.compare.process import config_command, run_config
from monai_anomaly.errors import DataError


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        3,
        0.005,
        [2, 3],
        ["brain", "bone"],
        "random",
        "top_20%",
        "a,b.pth",
        "12",
        "None",
        "x # y",
        "'quoted'",
        "/data/set one",
        "[1",
    ],
)
def test_a_flag_arrives_as_the_value_it_is(value):
    """Fire reads the words of MONAI's command line."""
    word = config_command([Path("train.json")], {"flag": value})[-1]
    assert word.startswith("--flag=")
    arrived = DefaultParseValue(word.removeprefix("--flag="))
    assert arrived == value and type(arrived) is type(value)


def test_several_configs_are_one_list():
    assert "--config_file=['a.json', 'b.json']" in config_command([Path("a.json"), Path("b.json")], {})


def script(monkeypatch, code: str) -> None:
    """A process of its own as ever, with less to do."""
    monkeypatch.setattr(process, "config_command", lambda *_: [sys.executable, "-c", code])


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('12:00:01 INFO Begun.')", None),
        (
            "print('12:00:01 ERROR The first.\\n12:00:02 ERROR No teacher; expected one.\\nlast words'); exit(1)",
            "No teacher; expected one.",
        ),
        ("[][7]", "IndexError: list index out of range"),
        ("import os; os.kill(os.getpid(), 9)", "It was ended by signal 9."),
        ("exit(3)", "it says nothing of the reason"),
    ],
)
def test_why_a_run_failed_is_told_in_a_sentence(tmp_path, monkeypatch, code, reason):
    script(monkeypatch, code)
    log = tmp_path / "runs" / "run.log"
    log.parent.mkdir()
    log.write_text("11:00:00 ERROR What an earlier attempt said.\n")
    assert run_config([], {}, log) == reason and log.read_text().startswith("11:00:00 ERROR")


def test_an_interruption_ends_the_process_of_the_run(tmp_path, monkeypatch):
    script(monkeypatch, "import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    log = tmp_path / "run.log"

    def interrupt(*_):
        if log.read_text().endswith("\n"):  # however long it takes to begin
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    log.touch()
    begun, before = time.monotonic(), signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_config([], {}, log)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - begun < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), 0)


def test_a_log_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="could not be written"):
        run_config([tmp_path / "config.json"], {}, tmp_path / "file" / "run.log")
