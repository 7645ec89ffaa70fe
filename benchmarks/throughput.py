"""Train each system by its bundle's own recipe for some epochs on a GPU, and tell its images per second and its peak GPU memory.

    python benchmarks/throughput.py --data DIR [--systems skipts rd4ad escdrkd scrd4ad drd] [--epochs 2]

DIR is a data set as the bundles take it. Each run is the bundle's train.json with its GPU defaults (WideResNet50-2, 256 x 256), batch 16 for all, in a
process of its own, once in TF32 and once with bfloat16 autocast (``--amp True``). The first epoch warms up; the figure is the mean over the others, data
loading included, from images that are kept decoded in memory. Prints a Markdown table. Works on a CPU, too, where it tells no memory: there ``--backbone``
and ``--image_size`` make it small.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow

from monai_anomaly.bundle_root import root
from monai_anomaly.pack import bundle_names

BATCH = 16
MODES = {"TF32": False, "bfloat16": True}


class Clock:
    """Handler: seconds of each epoch's iterations, with the device's work done."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def attach(self, engine: Engine) -> None:
        """Register with the trainer, behind its other handlers: an epoch ends here before the validation that follows it."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._look)

    def _begin(self, engine: Engine) -> None:
        self._start = self._now()

    def _look(self, engine: Engine) -> None:
        if engine.state.iteration % engine.state.epoch_length == 0:  # type: ignore[operator]
            self.seconds.append(self._now() - self._start)

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


def train(system: str, amp: bool, options: argparse.Namespace) -> dict[str, Any]:
    """One run of a bundle's train.json, in this process."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    flags: dict[str, Any] = {"teacher_weights": options.teacher_weights}
    flags |= {name: value for name in ("backbone", "image_size") if (value := getattr(options, name)) is not None}
    with tempfile.TemporaryDirectory() as folder:
        flow = ConfigWorkflow(
            config_file=str(Path(root(system)) / "train.json"), logging_file=False, workflow_type="train", dataset_dir=options.data,
            output_dir=folder, epochs=options.epochs, batch_size=BATCH, amp=amp, calibration_fraction=0, **flags,
        )  # fmt: skip
        flow.initialize()
        trainer = flow.parser.get_parsed_content("train#trainer")
        clock = Clock()
        clock.attach(trainer)
        trainer.run()
    n_images = len(flow.parser.get_parsed_content("train#dataset"))
    seconds = clock.seconds[1:] or clock.seconds
    gpu = torch.cuda.is_available()
    return {
        "images_per_s": round(n_images * len(seconds) / sum(seconds), 1),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if gpu else None,
        "device": torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads",
        "images": n_images,
        "torch": torch.__version__,
    }


def main() -> None:
    """Run everything and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="data set to train on")
    parser.add_argument("--systems", nargs="+", default=bundle_names(), help="bundles (default: all)")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of each run; all but the first count (default: %(default)s)")
    parser.add_argument(
        "--teacher_weights", default="random", help="as the bundles take it; they do not change the speed (default: %(default)s)"
    )
    parser.add_argument("--backbone", help="another teacher than the recipe's")
    parser.add_argument("--image_size", type=int, help="another size than the recipe's")
    parser.add_argument("--one", choices=MODES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(train(options.systems[0], MODES[options.one], options)))
        return
    lines = ["| system | precision | images per second | peak memory, GiB |", "|---|---|---|---|"]
    for system in options.systems:
        for mode in MODES:
            command = [sys.executable, __file__, *sys.argv[1:], "--systems", system, "--one", mode]
            row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
            lines.append(f"| {system} | {mode} | {row['images_per_s']} | {row['peak_memory_gib'] or ''} |")
    lines += ["", f"{row['device']}, {row['images']} images, batch {BATCH}, torch {row['torch']}."]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
