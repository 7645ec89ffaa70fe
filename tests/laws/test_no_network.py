"""Promise 5, it works without a network: once the teacher's weights are there, none is asked at import, training, evaluation or inference."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from support.tiny import write_image_folder

from monai_anomaly import bundle
from monai_anomaly.networks.teacher import build_resnet

# An audit hook sees what every socket of the process does, however it is called, and cannot be taken off again. That one is made asks nobody: urllib3 makes
# one on import, to see whether the machine knows IPv6.
CODE = """
import json, socket, sys

tried = []

def forbid(event, arguments):
    asked = event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo")  # gethostname asks nobody
    sent = event in ("socket.connect", "socket.sendto", "socket.sendmsg")
    if asked or (sent and arguments[0].family in (socket.AF_INET, socket.AF_INET6)):
        tried.append(f"{event} {arguments[1:]}")
        raise OSError("there is no network here")

sys.addaudithook(forbid)
for attempt in (
    lambda: socket.socket().connect(("127.0.0.1", 9)), lambda: socket.socket().connect_ex(("127.0.0.1", 9)),
    lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b"", ("::1", 9)), lambda: socket.getaddrinfo("example.org", 80),
):
    try:
        attempt()
    except OSError:
        pass
assert len(tried) == 4, tried
tried.clear()

import monai.bundle
import monai_anomaly.data, monai_anomaly.metrics, monai_anomaly.report, monai_anomaly.training, monai_anomaly.writers

for flags in json.loads(sys.argv[1]):
    monai.bundle.run(**flags)
print("tried:", tried)
"""


@pytest.mark.slow
def test_a_whole_round_without_a_network(tmp_path):
    data, out, root = write_image_folder(tmp_path / "data", 6, 2), tmp_path / "out", bundle.root("skipts")
    torch.save(build_resnet("resnet18", seed=1).state_dict(), tmp_path / "teacher.pth")
    small = {"backbone": "resnet18", "teacher_weights": str(tmp_path / "teacher.pth"), "image_size": 64, "epochs": 1, "batch_size": 4}
    rounds = [
        {"config_file": f"{root}/train.json", "output_dir": f"{out}", **small},  # and evaluation, by its own config
        {"config_file": f"{root}/inference.json", "output_dir": f"{out}/inference", "model": f"{out}/model.pt"},
    ]
    words = json.dumps([{"dataset_dir": str(data), **flags} for flags in rounds])
    done = subprocess.run([sys.executable, "-c", CODE, words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "tried: []"
    for name in ("model.pt", "run.json", "evaluation/metrics.json", "inference/metrics.json"):
        assert (out / name).is_file(), name
