"""How fast a detector is in other runtimes, and whether it still finds the same: exported files against PyTorch, in one process on the CPU.

    python benchmarks/export_latency.py --data DIR --teacher resnet18_imagenet_stages1to3.pth --out runs/export_latency

DIR holds the image folder head_ct. Two detectors are trained on it first, briefly (not to separate well, but to have trained weights): ResNet-18 with the
teacher given, and WideResNet50-2 with an untrained teacher; ``--models`` takes trained ones instead. Each is exported by ``python -m monai_anomaly export``'s
own function, parity gate included; OpenVINO runs its file once more in bfloat16, and once after NNCF's post-training quantisation to int8, calibrated on the
training normals. Latencies are medians of repeats in which the runtimes take turns; ratios are to PyTorch in the same repeats. AUROC is that of the test
images. Needs the packages of the extra ``bench``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

os.environ["NNCF_CI"] = "1"  # NNCF reports each use to its makers otherwise

import torch
from lean import medians
from sklearn.metrics import roc_auc_score
from torch import Tensor

from monai_anomaly.bundle_root import root
from monai_anomaly.compare.process import config_command
from monai_anomaly.data import find_cases, split_calibration
from monai_anomaly.export import FORMATS, MAP_TOLERANCE, export_detector, open_exported
from monai_anomaly.export.to_openvino import OpenVinoFile
from monai_anomaly.inference import prepare_slices
from monai_anomaly.networks import AnomalyDetector
from monai_anomaly.training import load_detector

Run = Callable[[Tensor], tuple[Tensor, Tensor]]
BATCHES = (1, 8)
SETTLE_S = 0.2


def train(data: Path, out: Path, teacher: str, epochs: tuple[int, int], size: int, wide: str) -> list[Path]:
    """Train both detectors, unless that was done before."""
    models = []
    for backbone, weights, n in (("resnet18", teacher, epochs[0]), (wide, "random", epochs[1])):
        folder = out / f"{backbone}_{Path(weights).stem}"
        if not (folder / "model.pt").is_file():
            flags = {"backbone": backbone, "teacher_weights": weights, "epochs": n, "image_size": size, "val_interval": n}
            command = config_command([Path(root("skipts")) / "train.json"], {"dataset_dir": data, "output_dir": folder, **flags})
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        models.append(folder / "model.pt")
    return models


def stack(detector: AnomalyDetector, cases: list) -> tuple[Tensor, list[int]]:
    """Images and labels of cases of one slice each."""
    slices = prepare_slices(detector, cases)
    samples = [slices[k] for k in range(len(slices))]
    return torch.stack([sample["image"] for sample in samples]), [sample["label"] for sample in samples]


def quantised(xml: Path, images: Tensor) -> Path:
    """Quantise an OpenVINO export to int8; what the images give decides on the ranges of the activations."""
    with contextlib.redirect_stdout(sys.stderr):  # where NNCF would talk into the table
        import nncf
        import openvino

        source, items = openvino.Core().read_model(str(xml)), nncf.Dataset([image[None].numpy() for image in images])
        # All but the two small products with the smoothing matrices: OpenVINO 2026.4 cannot run them in int8.
        model = nncf.quantize(source, items, subset_size=len(images), ignored_scope=nncf.IgnoredScope(types=["MatMul"]))
    path = xml.with_name("int8.xml")
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return path


def runtimes(model: Path, detector: AnomalyDetector, data: Path, training: Tensor) -> dict[str, Run]:
    """Every way to run the detector; PyTorch first."""
    files = {name: model.parent / f"detector{chosen.suffix}" for name, chosen in FORMATS.items()}
    for name, file in files.items():
        sys.stderr.write(f"exporting {file}\n")
        export_detector(model, name, file, data, force=True)
    xml = files["openvino"]
    sys.stderr.write("quantising\n")
    return {
        "PyTorch": detector.predict,
        "TorchScript": open_exported(files["torchscript"]),
        "ONNX Runtime, float32": open_exported(files["onnx"]),
        "OpenVINO, float32": OpenVinoFile(xml),
        "OpenVINO, bfloat16": OpenVinoFile(xml, {"INFERENCE_PRECISION_HINT": "bf16"}),
        "OpenVINO, int8 (NNCF)": OpenVinoFile(quantised(xml, training)),
    }


@torch.no_grad()
def rows(model: Path, data: Path, repeats: int) -> list[str]:
    """Markdown rows of one detector."""
    detector = load_detector(model)
    cases, settings = find_cases(str(data)), detector.provenance["settings"]
    images, labels = stack(detector, cases.select(split="test"))
    kept, _ = split_calibration(cases.select(split="train"), settings["calibration_fraction"], settings["seed"])
    run = runtimes(model, detector, data, stack(detector, kept)[0])
    results = {name: [function(batch) for batch in images.split(BATCHES[-1])] for name, function in run.items()}
    maps, scores = ({name: torch.cat([result[k] for result in found]) for name, found in results.items()} for k in (0, 1))
    seconds = {
        n: medians({name: partial(function, images[:n].contiguous()) for name, function in run.items()}, repeats, SETTLE_S) for n in BATCHES
    }
    auroc = {name: 100 * roc_auc_score(labels, score.numpy()) for name, score in scores.items()}
    lines = []
    for name in run:
        times = [f"{1000 * seconds[n][name]:.1f} | {seconds[n][name] / seconds[n]['PyTorch']:.2f}" for n in BATCHES]
        difference = float((maps[name] - maps["PyTorch"]).abs().max())
        gate = "" if name == "PyTorch" else "passes" if difference <= MAP_TOLERANCE else "refused"
        lines.append(
            f"| {detector.system.teacher.name} | {name} | {' | '.join(times)} | {auroc[name]:.2f} | {auroc[name] - auroc['PyTorch']:+.2f} | "
            f"{difference:.1e} | {gate} |"
        )
    return lines


def main() -> None:
    """Train what is missing, export, measure, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds head_ct")
    parser.add_argument("--teacher", default="random", help="weight file of the ResNet-18 teacher (default: untrained)")
    parser.add_argument("--models", type=Path, nargs="+", help="model.pt files trained on head_ct, instead of training")
    parser.add_argument("--epochs", type=int, nargs=2, default=(10, 3), help="of ResNet-18 and of WideResNet50-2 (default: 10 3)")
    parser.add_argument("--image_size", type=int, default=256, help="of the training (default: %(default)s)")
    parser.add_argument("--wide", default="wide_resnet50_2", help="the second backbone (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of every runtime (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=10, help="timed repeats of each runtime (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/export_latency"), help="for models and exports (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = options.data / "head_ct"
    models = options.models or train(data, options.out, options.teacher, tuple(options.epochs), options.image_size, options.wide)
    table = [row for model in models for row in rows(model, data, options.repeats)]
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "openvino", "nncf"))
    heads = " | ".join(f"ms, batch {n} | over PyTorch" for n in BATCHES)
    head = f"| teacher | runtime | {heads} | AUROC | difference | map difference | gate |"
    lines = [f"{options.threads} threads; {packages}; {_instructions()}", "", head, "|---" * (head.count("|") - 1) + "|", *table]
    sys.stdout.write("\n".join(lines) + "\n")


def _instructions() -> str:
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return "instructions unknown"
    return ", ".join(f"{word}: {'yes' if word in flags else 'no'}" for word in ("avx512_vnni", "avx512_bf16", "amx_tile"))


if __name__ == "__main__":
    main()
