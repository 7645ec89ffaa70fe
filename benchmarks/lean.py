"""How lean the systems are: their training steps and their scoring over a plain network of the same trunk, all in one process on the CPU.

    python benchmarks/lean.py [--systems skipts rd4ad escdrkd scrd4ad drd] [--repeats 5]

Each system is what its bundle's train.json makes: network, loss, pseudo-anomalies, optimiser, in the trainer's own iteration. Yardstick: torchvision's
trainable WideResNet50-2, 3 x 256 x 256, batch 4, float32. A training step is compared with forward + cross-entropy + backward, scoring one image at a
time with one forward pass. Ratios are medians over interleaved repeats; peak memory is that of a process of its own that does nothing but training
steps, less what it holds before the first one. The result is one JSON object, and a Markdown table on the standard error stream.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from monai.bundle import ConfigParser

from monai_anomaly.bundle_root import root
from monai_anomaly.networks.teacher import build_resnet
from monai_anomaly.pack import bundle_names
from monai_anomaly.training import DistillationTrainer

BACKBONE, BATCH, SIZE = "wide_resnet50_2", 4, 256


def bundle_parts(system: str, backbone: str = BACKBONE) -> ConfigParser:
    """The bundle's config, from which network, loss and optimiser are built; it reads no data."""
    parser = ConfigParser()
    parser.read_config(str(Path(root(system)) / "train.json"))
    parser.update(
        {"dataset_dir": ".", "backbone": backbone, "teacher_weights": "random", "image_size": SIZE, "device": torch.device("cpu")}
    )
    return parser


def training_step(system: str, backbone: str = BACKBONE, batch: int = BATCH) -> Callable[[], object]:
    """One iteration of the trainer: pseudo-anomalies, teacher, student, losses, backward, optimiser."""
    torch.manual_seed(0)
    parts = bundle_parts(system, backbone)
    network, loss, optimizer, pseudo = (parts.get_parsed_content(name) for name in ("network_def", "loss", "optimizer", "pseudo_anomaly"))
    trainer = DistillationTrainer("cpu", 1, [], network, optimizer, loss, pseudo_anomaly=pseudo)
    data = {"image": torch.randn(batch, 3, SIZE, SIZE).clamp(-2, 2)}
    return lambda: trainer._iteration(trainer, data)


def plain_step(channels_last: bool) -> Callable[[], None]:
    """Forward, cross-entropy and backward of the trainable trunk with its classifier."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = build_resnet(BACKBONE).train().to(memory_format=layout)
    image, label = torch.randn(BATCH, 3, SIZE, SIZE).to(memory_format=layout), torch.arange(BATCH)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(image), label).backward()

    return step


def scoring(system: str) -> Callable[[], object]:
    """Map and score of one image."""
    detector = bundle_parts(system).get_parsed_content("network_def").eval()
    image = torch.randn(1, 3, SIZE, SIZE)
    return torch.no_grad()(lambda: detector.predict(image))


def plain_forward(channels_last: bool) -> Callable[[], object]:
    """One forward pass of the trunk with its classifier."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model, image = build_resnet(BACKBONE).eval().to(memory_format=layout), torch.randn(1, 3, SIZE, SIZE).to(memory_format=layout)
    return torch.no_grad()(lambda: model(image))


def medians(functions: dict[str, Callable[[], object]], repeats: int, settle_s: float = 0.0) -> dict[str, float]:
    """Median seconds of each function; they take turns, so that a slow moment of the machine meets all of them.

    Functions with threads of their own need ``settle_s``: idle threads of the one before spin for a while, so each function waits, and runs once untimed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            if settle_s:
                time.sleep(settle_s)
                function()
            start = time.perf_counter()
            function()
            if repeat:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_memory_mib(system: str) -> dict[str, int]:
    """Highest resident memory of two training steps, above what the process holds when everything is built."""
    step = training_step(system)
    held = _memory_mib("VmRSS")
    step()
    step()
    return {"held_before_mib": round(held), "peak_of_step_mib": round(_memory_mib("VmHWM") - held)}


def _memory_mib(what: str) -> float:
    """Of this process alone: ``getrusage`` would begin with the peak of the process that started it."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{what}:")) / 1024


def measure(system: str, repeats: int) -> dict[str, float]:
    """All figures of one system."""
    command = [sys.executable, __file__, "--systems", system, "--memory"]
    memory = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    step = medians({"ours": training_step(system), "plain": plain_step(False), "plain_channels_last": plain_step(True)}, repeats)
    score = medians({"ours": scoring(system), "plain": plain_forward(False), "plain_channels_last": plain_forward(True)}, repeats * 3)
    return {
        "training_step_over_plain": round(step["ours"] / step["plain"], 3),
        "training_step_over_plain_channels_last": round(step["ours"] / step["plain_channels_last"], 3),
        "scoring_over_plain_forward": round(score["ours"] / score["plain"], 3),
        "scoring_over_plain_forward_channels_last": round(score["ours"] / score["plain_channels_last"], 3),
        "training_step_s": round(step["ours"], 3),
        "plain_step_s": round(step["plain"], 3),
        "scoring_s": round(score["ours"], 3),
        "plain_forward_s": round(score["plain"], 3),
        **memory,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=bundle_names(), help="bundles (default: all)")
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats of each function (default: %(default)s)")
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        sys.stdout.write(json.dumps(peak_memory_mib(options.systems[0])))
        return
    what = f"{BACKBONE}, {SIZE} x {SIZE}, batch {BATCH}, float32, CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"
    found = {system: measure(system, options.repeats) for system in options.systems}
    sys.stdout.write(json.dumps({"what": what, **found}, indent=2) + "\n")
    names = (
        "training_step_over_plain",
        "training_step_over_plain_channels_last",
        "scoring_over_plain_forward",
        "scoring_over_plain_forward_channels_last",
    )
    for system, row in found.items():
        sys.stderr.write(f"| {system} | " + " | ".join(f"{row[name]:.2f}" for name in names) + f" | {row['peak_of_step_mib']:,} |\n")


if __name__ == "__main__":
    main()
