"""What a number was computed with, told alike wherever it is told."""

from __future__ import annotations

import torch

from monai_anomaly.versions import device_name, versions


def test_a_cpu_is_told_with_its_threads_and_a_gpu_by_its_name(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 7)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"number {device.index}")
    assert device_name("cpu") == device_name(torch.device("cpu")) == "CPU, 7 threads"
    assert device_name("cuda:1") == device_name(torch.device("cuda:1")) == "number 1"


def test_a_package_that_is_not_there_is_said_to_be_absent(monkeypatch):
    from importlib import metadata

    def version(name):
        if name == "itk":
            raise metadata.PackageNotFoundError
        return "1.2"

    monkeypatch.setattr("monai_anomaly.versions.version", version)
    assert versions()["itk"] == "absent" and versions()["torch"] == "1.2"
