"""Starts a bundle's command in a process of its own that is killed, or runs out of room, at a chosen instant; the rest of the process is the real thing.

Usage: python killing.py <instant> <arguments of python -m monai.bundle>
"""

from __future__ import annotations

import io
import os
import resource
import runpy
import signal
import sys

import torch


def die() -> None:
    """What ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def in_the_middle_of_epoch_3() -> None:
    """After the first of three batches."""
    from monai_anomaly.training import DistillationTrainer

    iteration = DistillationTrainer._iteration

    def killed(self, engine, batch):
        output = iteration(self, engine, batch)
        if engine.state.epoch == 3 and engine.state.iteration % 3 == 1:
            die()
        return output

    DistillationTrainer._iteration = killed


def in_the_second_writing_of_the_checkpoint() -> None:
    """With half of the bytes in the file."""
    save, written = torch.save, []

    def half(state, file):
        if "optimizer" not in state:
            return save(state, file)
        written.append(file)
        if len(written) < 2:
            return save(state, file)
        content = io.BytesIO()
        save(state, content)
        file.write(content.getvalue()[: content.tell() // 2])
        file.flush()
        os.fsync(file.fileno())
        return die()

    torch.save = half


def in_the_evaluation() -> None:
    """Some tables are there, others are not, and the metrics are not."""
    replace = os.replace

    def killed(source, target):
        replace(source, target)
        if str(target).endswith("series.csv"):
            die()

    os.replace = killed


def with_room_for_10_mb() -> None:
    """The kernel's own limit on the size of a file: writing beyond it fails in the middle, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * 10**6, 10 * 10**6))


if __name__ == "__main__":
    torch.set_num_threads(1)
    globals()[sys.argv.pop(1)]()
    sys.argv[0] = "monai.bundle"
    runpy.run_module("monai.bundle", run_name="__main__")
