"""The doctor tells what is there and what to do, whatever is missing, and asks nobody on a network."""

from __future__ import annotations

import importlib.metadata as metadata
import os
import shutil
import socket
from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement

from monai_anomaly import bundle_root, doctor, pack
from monai_anomaly.__main__ import main
from monai_anomaly.doctor import BROKEN, NOTE, examine, summary


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Weights, data and caches of the machine play no part; nor does a network, whatever asks for it."""
    for name in ("TORCH_HOME", "XDG_CACHE_HOME", "MONAI_DATA_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a socket was asked for"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a name was asked for"))


def of(group, part):
    (found,) = [finding for finding in examine() if (finding.group, finding.part) == (group, part)]
    return found


def test_a_machine_that_runs_the_tests_is_fine_and_nothing_is_written(capsys, tmp_path):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for line in metadata.requires("monai_anomaly"):
        if "extra ==" not in line:
            name = Requirement(line).name
            assert any(row.split()[:3] == ["ok", name, metadata.version(name)] for row in said.splitlines()), name
    for model, file in {"resnet18": "resnet18-f37072fd.pth", "wide_resnet50_2": "wide_resnet50_2-95faca4d.pth"}.items():
        (advice,) = [line for line in said.splitlines() if line.strip().startswith(f"{model}:")]
        assert f"bring that file into {tmp_path / 'torch_home' / 'hub' / 'checkpoints'}" in advice and file in advice
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("found", ["2.4.4", None])
def test_what_every_run_needs_is_missed_with_status_2(capsys, monkeypatch, found):
    real = metadata.version

    def version(name):
        if name != "pydicom":
            return real(name)
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(metadata, "version", version)
    assert main(["doctor"]) == 2
    said = capsys.readouterr().out
    assert f"BROKEN  pydicom          {found or 'missing'}, expected >=3.0.2" in said
    assert '  pydicom: pip install "pydicom>=3.0.2"' in said and said.endswith("\n1 thing to mend before a run can work.\n")


def test_what_cannot_be_looked_at_hides_nothing_else(monkeypatch):
    def fail():
        raise OSError("libcudart.so.13: cannot open shared object file\nand more")
        yield

    monkeypatch.setattr(doctor, "_devices", fail)
    found = {finding.group: finding for finding in examine()}
    assert found["devices"].state == BROKEN and found["devices"].found.endswith("OSError libcudart.so.13: cannot open shared object file")
    assert found["weights"].state == NOTE and "folders" in found


def test_weights_that_are_altered_are_told_with_what_to_do(tmp_path):
    file = tmp_path / "torch_home" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a download")
    found = of("weights", "resnet18")
    assert found.state == BROKEN and "expected one that starts with f37072fd" in found.advice and "delete the file" in found.advice


def test_links_that_git_wrote_as_text_are_told(tmp_path, monkeypatch):
    for name, content in {"good": "{}", "lost": "../common/evaluate.json"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.json").write_text("{}")
        (tmp_path / name / "evaluate.json").write_text(content)
    for module in (bundle_root, pack):
        monkeypatch.setattr(module, "root", lambda name: str(tmp_path / name))
    assert [(each.part, each.state) for each in examine() if each.group == "bundles"] == [("lost", BROKEN), ("folder", "ok")]
    assert "core.symlinks" in of("bundles", "lost").advice
    for module in (bundle_root, pack):
        monkeypatch.setattr(module, "root", lambda name: str(tmp_path / "empty" / name))
    assert of("bundles", "(all)").state == BROKEN


def test_gpus_are_told_with_what_they_can(monkeypatch):
    gpus = [SimpleNamespace(name="A", total_memory=80e9, major=9, minor=0), SimpleNamespace(name="B", total_memory=11e9, major=7, minor=5)]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", gpus.__getitem__)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    found = {each.part: each for each in examine() if each.group == "devices"}
    assert found["cuda:0"].found == "A, 80.0 GB, compute capability 9.0, bfloat16 (--amp True) and TF32 in hardware"
    assert found["cuda:1"].found == "B, 11.0 GB, compute capability 7.5, no bfloat16 or TF32 in hardware: leave --amp off"
    assert "multi_gpu_train.json" in found["several GPUs"].found and "GPU" not in found


@pytest.mark.parametrize("built, told", [(None, "build for the CPU alone"), ("13.0", "new enough for CUDA 13.0")])
def test_without_a_gpu_the_reason_is_told(monkeypatch, built, told):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert of("devices", "GPU").state == NOTE and told in of("devices", "GPU").advice
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert of("devices", "Apple GPU").state == NOTE


def test_a_folder_that_is_full_or_closed_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**8))
    found = of("folders", "cache")
    assert found.state == NOTE and found.found.endswith("0.1 GB free") and "XDG_CACHE_HOME" in found.advice
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**12))
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(os, "access", lambda place, _: place != tmp_path / "closed")  # tests may run as root, who may write anywhere
    monkeypatch.setenv("MONAI_DATA_DIRECTORY", str(tmp_path / "closed" / "data"))
    found = of("folders", "built-in study")
    assert found.state == NOTE and found.found.endswith("1000.0 GB free, NOT WRITABLE") and "MONAI_DATA_DIRECTORY" in found.advice
    assert of("folders", "cache").state == "ok"


def test_optional_parts_that_are_missing_break_nothing(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _, path=None: None)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda _: None)
    found = [each for each in examine() if each.group == "optional"]
    assert {each.part for each in found if each.state == doctor.ABSENT} >= {"MONAI Label", "Orthanc", "dciodvfy"}
    assert all(each.advice for each in found if each.state == doctor.ABSENT)
    assert not any(each.is_broken for each in found) and "To have what is optional:" in summary(found)


def test_debians_orthanc_is_found_by_those_who_are_not_root(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program, path=None: f"{path}/{program}" if path == "/usr/sbin" else None)
    assert of("optional", "Orthanc").found == "/usr/sbin/Orthanc"
