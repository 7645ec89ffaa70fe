"""How lean Skip-TS is: its training step and its scoring over a plain network of the same trunk, all in one process on the CPU.

    python benchmarks/lean.py [--repeats 5]

Yardstick: torchvision's trainable WideResNet50-2, 3 x 256 x 256, batch 4, float32. A training step is compared with forward + cross-entropy + backward,
scoring one image at a time with one forward pass. Ratios are medians over interleaved repeats; peak memory is that of a process of its own that
does nothing but training steps, less what it holds before the first one.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from monai_anomaly.losses import ConsistencyLoss, SimilarityLoss, WeightedSum
from monai_anomaly.networks import AnomalyDetector, SkipTS, Teacher
from monai_anomaly.networks.teacher import build_resnet
from monai_anomaly.scoring import AnomalyMap, Pooling

BACKBONE, BATCH, SIZE = "wide_resnet50_2", 4, 256


def training_step() -> Callable[[], None]:
    """One step of the paper's recipe: teacher, student, eq. 5, backward, Adam."""
    torch.manual_seed(0)
    detector = AnomalyDetector(SkipTS(Teacher(BACKBONE, weights="random")), AnomalyMap(), Pooling("max")).train()
    loss = WeightedSum({"similarity": SimilarityLoss(), "consistency": ConsistencyLoss()}, {"similarity": 1.0, "consistency": 0.05})
    optimizer = torch.optim.Adam(detector.trainable_parameters(), lr=0.005, betas=(0.5, 0.999))
    image = torch.randn(BATCH, 3, SIZE, SIZE)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(detector(image))["loss"].backward()
        optimizer.step()

    return step


def plain_step(channels_last: bool) -> Callable[[], None]:
    """Forward, cross-entropy and backward of the trainable trunk with its classifier."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = build_resnet(BACKBONE).train().to(memory_format=layout)
    image, label = torch.randn(BATCH, 3, SIZE, SIZE).to(memory_format=layout), torch.arange(BATCH)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(image), label).backward()

    return step


def scoring() -> Callable[[], None]:
    """Map and score of one image."""
    detector = AnomalyDetector(SkipTS(Teacher(BACKBONE, weights="random")), AnomalyMap(), Pooling("max")).eval()
    image = torch.randn(1, 3, SIZE, SIZE)

    def score() -> None:
        with torch.no_grad():
            detector.predict(image)

    return score


def plain_forward(channels_last: bool) -> Callable[[], None]:
    """One forward pass of the trunk with its classifier."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model, image = build_resnet(BACKBONE).eval().to(memory_format=layout), torch.randn(1, 3, SIZE, SIZE).to(memory_format=layout)

    def forward() -> None:
        with torch.no_grad():
            model(image)

    return forward


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


def peak_memory_mib() -> dict[str, float]:
    """Highest resident memory of two training steps, above what the process holds when everything is built."""
    step = training_step()
    held = _resident_mib()
    step()
    step()
    return {"held_before_mib": held, "peak_of_step_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - held}


def _resident_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats of each function (default: %(default)s)")
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        sys.stdout.write(json.dumps(peak_memory_mib()))
        return
    memory = json.loads(subprocess.run([sys.executable, __file__, "--memory"], check=True, capture_output=True, text=True).stdout)
    step = medians({"ours": training_step(), "plain": plain_step(False), "plain_channels_last": plain_step(True)}, options.repeats)
    score = medians({"ours": scoring(), "plain": plain_forward(False), "plain_channels_last": plain_forward(True)}, options.repeats * 3)
    result = {
        "what": f"Skip-TS, {BACKBONE}, {SIZE} x {SIZE}, batch {BATCH}, float32, CPU, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "training_step_over_plain": round(step["ours"] / step["plain"], 3),
        "training_step_over_plain_channels_last": round(step["ours"] / step["plain_channels_last"], 3),
        "scoring_over_plain_forward": round(score["ours"] / score["plain"], 3),
        "scoring_over_plain_forward_channels_last": round(score["ours"] / score["plain_channels_last"], 3),
        "seconds": {
            "training_step": round(step["ours"], 3),
            "plain_step": round(step["plain"], 3),
            "scoring": round(score["ours"], 3),
            "plain_forward": round(score["plain"], 3),
        },
        **{name: round(value) for name, value in memory.items()},
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
