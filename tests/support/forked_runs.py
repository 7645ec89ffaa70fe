"""Train bundles in two processes, again and again, and write down how each process ended.

The processes are forked after the imports, which is all that is saved: each goes through the whole run and the interpreter's own end, where threads of
the process group that are still there would abort it.

Usage: python forked_runs.py <data> <folder> <JSON: a list of [bundle, name of the output in the folder, epochs]>
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from pathlib import Path

import monai.bundle
import torch.profiler  # noqa: F401  # what a run imports late, so that all runs import it once
from PIL import Image

import monai_anomaly.bundle
import monai_anomaly.report
import monai_anomaly.training


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


def train(bundle: str, data: str, out: Path, epochs: int) -> None:
    folder = Path(monai_anomaly.bundle.root(bundle))
    monai.bundle.run(
        config_file=[str(folder / "train.json"), str(folder / "multi_gpu_train.json")], meta_file=str(folder / "metadata.json"),
        logging_file=False, dataset_dir=data, output_dir=str(out), image_size=64, epochs=epochs, batch_size=2, teacher_weights="random",
        backbone="resnet18", blocks=[1, 1, 1],
    )  # fmt: skip


def main(data: str, out: Path, runs: list[tuple[str, str, int]]) -> None:
    Image.preinit()
    gc.freeze()  # what is shared stays shared
    endings = []
    for bundle, name, epochs in runs:
        port = free_port()
        pids = []
        for rank in (0, 1):
            pid = start(rank, port)
            if pid is None:
                train(bundle, data, out / name, epochs)
                return
            pids.append(pid)
        endings += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    (out / "exit_codes.json").write_text(json.dumps(endings))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
