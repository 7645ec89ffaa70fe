"""Train the bundle in two processes, again and again, and write down how each process ended.

The processes are forked after the imports, which is all that is saved: each goes through the whole run and the interpreter's own end, where threads of
the process group that are still there would abort it.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from pathlib import Path

import monai.bundle
import torch.profiler  # noqa: F401  # what a run imports late, so that ten runs import it once
from PIL import Image

import monai_anomaly.bundle
import monai_anomaly.report
import monai_anomaly.training

BUNDLE = Path(monai_anomaly.bundle.root("skipts"))


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def start(rank: int, port: int) -> int | None:
    """Fork a process with the environment that torchrun gives; ``None`` in the process itself."""
    pid = os.fork()
    if pid:
        return pid
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return None


def train(data: str, out: str) -> None:
    monai.bundle.run(
        config_file=[str(BUNDLE / "train.json"), str(BUNDLE / "multi_gpu_train.json")], meta_file=str(BUNDLE / "metadata.json"),
        logging_file=False, dataset_dir=data, output_dir=out, image_size=32, epochs=1, batch_size=2, teacher_weights="random",
        backbone="resnet18", blocks=[1, 1, 1],
    )  # fmt: skip


def main(data: str, out: str, times: int) -> None:
    Image.preinit()
    gc.freeze()  # what is shared stays shared
    endings = []
    for number in range(times):
        port = free_port()
        pids = []
        for rank in (0, 1):
            pid = start(rank, port)
            if pid is None:
                train(data, f"{out}/{number}")
                return
            pids.append(pid)
        endings += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    Path(out, "exit_codes.json").write_text(json.dumps(endings))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
