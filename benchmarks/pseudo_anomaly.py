"""What pseudo-anomalies cost: against the released codes' loops, and as a share of a training step.

    python benchmarks/pseudo_anomaly.py [--rounds 15] [--backbones resnet18 wide_resnet50_2]

Yardsticks, in the same run, one image after another as in the released codes:

* CutPaste, ESC-DRKD and DRD: the released loop written again, float64: draws, copy, paste, ImageNet normalisation, float32 tensor. Ours includes the
  normalisation of the batch, too.
* Simplex noise, SCRD4AD: the package opensimplex compiled by numba (``pip install opensimplex numba``), whose noise is the released code's to the last
  bit; alone, and in the released data set's way: an array of zeros with the patch in it, added to the image, normalised. Left out where not installed.

The training step is the trainer's own iteration with the bundle's network, loss and optimiser, batch 4 (ESC-DRKD, DRD) or 16 (SCRD4AD), 3 x 256 x 256.
Everything runs on one thread; figures are medians of CPU seconds over rounds in which all take turns, so that another process disturbs little.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from random import Random
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import torch
from lean import SIZE, training_step

from monai_anomaly.transforms import IMAGENET_MEAN, IMAGENET_STD, from_unit_range
from monai_anomaly.transforms.pseudo import CutPaste, GaussianPatch, PerlinPatch, RectangleCutPaste, ScarCutPaste, SimplexPatch
from monai_anomaly.transforms.pseudo.fractal import textures
from monai_anomaly.transforms.pseudo.region import box_patches
from monai_anomaly.transforms.pseudo.simplex_patch import simplex_noise

CUTPASTE_BATCH, SIMPLEX_BATCH = 4, 16
STEPS = {"escdrkd": CUTPASTE_BATCH, "drd": CUTPASTE_BATCH, "scrd4ad": SIMPLEX_BATCH}


def released_cut_paste(batch: int) -> Callable[[], object]:
    """A batch of the released codes' CutPaste, image by image."""
    images = torch.from_numpy(np.random.RandomState(0).rand(batch, SIZE, SIZE, 3))  # as the loader hands them over
    draw, numpy_draw = Random(0), np.random.RandomState(0)  # noqa: S311

    def loop() -> torch.Tensor:
        large, middle, small = draw.randint(150, 200), draw.randint(64, 100), draw.randint(10, 32)
        side = draw.choices([large, middle, small], [0.2, 0.3, 0.5])[0]
        out = []
        for image in images:
            x, y = numpy_draw.randint(0, SIZE - side), numpy_draw.randint(0, SIZE - side)
            width, height = side - (x - side) % 2, side - (y - side) % 2
            top, left = draw.randint(1, SIZE - height - 2), draw.randint(1, SIZE - width - 2)
            pasted = np.copy(image)
            place = np.s_[top : top + height, left : left + width]
            pasted[place] = image[y : y + height, x : x + width] + 0.2 * image[place]
            out.append(_released_normalisation(pasted))
        return torch.stack(out)

    return loop


def released_simplex(batch: int) -> tuple[Callable[[], object], Callable[[], object]] | None:
    """A batch of SCRD4AD's simplex patches with opensimplex and numba: the noise alone, and the whole data set's way."""
    try:
        import numba  # noqa: F401
        from opensimplex.internals import _init, _noise3a
    except ImportError:
        return None
    permutation, gradients = _init(111)
    images = np.random.RandomState(0).rand(batch, SIZE, SIZE, 3)
    draw = np.random.RandomState(0)

    def noise() -> np.ndarray:
        height, width = draw.randint(10, 32), draw.randint(10, 32)
        total = np.zeros((3, height, width))
        for k in range(6):
            x, y, z = (np.arange(n) / (32 / 2**k) for n in (width, height, 3))
            total += 0.6**k * _noise3a(x, y, z, permutation, gradients)
        return total

    def whole() -> torch.Tensor:
        out = []
        for image in images:
            patch = 0.2 * noise().transpose(1, 2, 0)
            height, width = patch.shape[:2]
            top, left = draw.randint(1, SIZE - height), draw.randint(1, SIZE - width)
            added = np.zeros((SIZE, SIZE, 3))
            added[top : top + height, left : left + width] = patch
            out.append(_released_normalisation(image + added))
        return torch.stack(out)

    return lambda: [noise() for _ in range(batch)], whole


def _released_normalisation(image: np.ndarray) -> torch.Tensor:
    normalised = (image - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    return torch.from_numpy(normalised.transpose(2, 0, 1)).float()


def ours(anomaly: Callable[..., Any], batch: int, normalise: bool) -> Callable[[], object]:
    """The transform on a batch."""
    image, generator = torch.rand(batch, 3, SIZE, SIZE), torch.Generator().manual_seed(0)
    return lambda: from_unit_range(anomaly(image, generator).image) if normalise else anomaly(image, generator)


def our_noise(batch: int) -> Callable[[], object]:
    """The simplex noise of a batch, sizes and textures drawn anew, without an image."""
    generator = torch.Generator().manual_seed(0)

    def noise() -> torch.Tensor:
        height, width = torch.randint(10, 32, (2, batch), generator=generator)
        return simplex_noise(box_patches(height, width, torch.device("cpu")), 3, *textures(batch, 3, generator))

    return noise


def cpu_medians(functions: dict[str, Callable[[], object]], rounds: int, calls: int = 1) -> dict[str, float]:
    """Median CPU seconds of a call; functions take turns, and the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            start = time.process_time()
            for _ in range(calls):  # patches have many sizes
                function()
            if turn:
                seconds[name].append((time.process_time() - start) / calls)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds of ten calls each (default: %(default)s)")
    parser.add_argument(
        "--backbones", nargs="*", default=["resnet18", "wide_resnet50_2"], help="teachers of the training steps (default: both)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    # Steps first: as in training, the allocator then keeps blocks of the size that the transforms need.
    steps = {  # one network at a time; the second of two steps counts
        f"{system} {backbone}": cpu_medians({"step": training_step(system, backbone, n)}, rounds=1)["step"]
        for backbone in options.backbones
        for system, n in STEPS.items()
    }
    four, sixteen = CUTPASTE_BATCH, SIMPLEX_BATCH
    kinds = {
        "CutPaste": ours(CutPaste(), four, False),
        "CutPaste on tissue": ours(CutPaste(foreground=0.1), four, False),
        "RectangleCutPaste": ours(RectangleCutPaste(), four, False),
        "ScarCutPaste": ours(ScarCutPaste(), four, False),
        "SimplexPatch": ours(SimplexPatch(), sixteen, False),
        "SimplexPatch, grey": ours(SimplexPatch(grey_noise=True), sixteen, False),
        "GaussianPatch": ours(GaussianPatch(), sixteen, False),
        "PerlinPatch": ours(PerlinPatch(), sixteen, False),
        "CutPaste, normalised": ours(CutPaste(), four, True),
        "SimplexPatch, normalised": ours(SimplexPatch(), sixteen, True),
        "simplex noise": our_noise(sixteen),
        "released CutPaste": released_cut_paste(four),
    }
    numba = released_simplex(sixteen)
    if numba is not None:
        kinds["released simplex noise, numba"], kinds["released simplex patch, numba"] = numba
    seconds = cpu_medians(kinds, options.rounds, calls=10)
    batch = {name: four if "CutPaste" in name else sixteen for name in kinds}
    result = {
        "what": f"{SIZE} x {SIZE}, float32, CPU seconds on one thread, torch {torch.__version__}",
        "ms_per_image": {name: round(1000 * value / batch[name], 3) for name, value in seconds.items()},
        "cutpaste_times_faster_than_released": round(seconds["released CutPaste"] / seconds["CutPaste, normalised"], 1),
        "simplex_noise_over_numba": numba and round(seconds["simplex noise"] / seconds["released simplex noise, numba"], 2),
        "simplex_patch_over_numba": numba and round(seconds["SimplexPatch, normalised"] / seconds["released simplex patch, numba"], 2),
        "step_s": {name: round(value, 2) for name, value in steps.items()},
        "percent_of_step": {
            name: round(100 * seconds["SimplexPatch" if "scrd4ad" in name else "CutPaste"] / value, 2) for name, value in steps.items()
        },
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
