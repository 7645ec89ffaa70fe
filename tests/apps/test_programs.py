"""Programs that end with the block that they were started in."""

from __future__ import annotations

import os
import stat
import sys

import pytest
import requests

pytest.importorskip("dicomweb_client", reason="MONAI Label's environment: make test-label")
from support.orthanc import app_module

FAKE = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        told = {name: os.environ.get(name) for name in ("STARTED_BY", "MPLBACKEND", "SETTING")}
        self.wfile.write(json.dumps({**told, "words": sys.argv[1:]}).encode())


HTTPServer(("127.0.0.1", int(sys.argv[-1])), Answer).serve_forever()
"""


@pytest.mark.skipif(os.name != "posix", reason="a shell script as another Python")
def test_the_server_runs_in_the_environment_that_is_named_and_not_in_the_notebooks(tmp_path, monkeypatch):
    (tmp_path / "monailabel").mkdir()
    (tmp_path / "monailabel" / "__init__.py").touch()
    (tmp_path / "monailabel" / "main.py").write_text(FAKE)
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nSTARTED_BY=other exec "{sys.executable}" "$@"\n')
    other.chmod(other.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    settings = {"PYTHONPATH": str(tmp_path), "SETTING": "7"}
    with app_module("programs").running_server(tmp_path / "out", "studies", "models", settings, python=str(other)) as url:
        told = requests.get(f"{url}/info/", timeout=10).json()
    assert (told["STARTED_BY"], told["MPLBACKEND"], told["SETTING"]) == ("other", None, "7")
    assert told["words"][:2] == ["start_server", "--app"] and (tmp_path / "out/app/main.py").is_file()
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=10)


@pytest.mark.skipif(os.name != "posix", reason="groups of processes")
def test_a_program_that_ends_by_itself_tells_why(tmp_path):
    programs = app_module("programs")
    command = [sys.executable, "-c", "raise SystemExit('the port is taken')"]
    with pytest.raises(SystemExit, match="the port is taken"), programs.running(command, tmp_path / "log", "http://127.0.0.1:1/"):
        pass
