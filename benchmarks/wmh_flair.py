"""Train Skip-TS on the lesion-free FLAIR slices of some patients, score the whole volumes of others, and print the table.

    python benchmarks/wmh_flair.py --data DIR --teacher resnet18.pth --epochs 20 --seeds 42 142 250 --out runs/wmh_flair

DIR holds ``images/`` and ``masks/`` with one NIfTI file a patient, equal names. Patients are parted by name: the first ten train, the rest test. A training
volume has a mask and no label, so that its slices without a marked voxel are the normal ones. Finished runs are not repeated; the last epoch counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from monai_anomaly.compare.process import config_command

N_TRAIN = 10
COLUMNS = {
    "slice AUROC": ("image", "auroc"),
    "slice AP": ("image", "ap"),
    "mean intensity": ("image", "baseline_mean_intensity_auroc"),
    "pixel AUROC": ("pixel", "auroc"),
    "pixel AP": ("pixel", "ap"),
    "AUPRO": ("pixel", "aupro"),
}


def write_datalist(data: Path, path: Path) -> None:
    """The split, as MONAI's datalist."""
    names = sorted(image.name for image in (data / "images").iterdir())
    cases = [{"image": str(data / "images" / name), "mask": str(data / "masks" / name), "patient": name.split("_")[0]} for name in names]
    for case in cases[N_TRAIN:]:
        case["label"] = 1  # type: ignore[assignment]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"training": cases[:N_TRAIN], "testing": cases[N_TRAIN:]}, indent=1))


def metrics(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Metrics of one run; trains if it is not there yet."""
    folder = options.out / Path(options.teacher).stem / f"seed{seed}"
    if not (folder / "evaluation" / "metrics.json").is_file():
        flags = {
            "dataset_dir": options.out / "datalist.json", "backbone": "resnet18", "teacher_weights": options.teacher, "plane": "axial",
            "epochs": options.epochs, "seed": seed, "val_interval": options.epochs, "output_dir": folder,
        }  # fmt: skip
        command = config_command([Path("bundles/skipts/train.json")], flags)
        sys.stderr.write(f"$ {' '.join(command[1:])}\n")
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads((folder / "evaluation" / "metrics.json").read_text())["metrics"]
    return found


def main() -> None:
    """Run everything and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with images/ and masks/")
    parser.add_argument("--teacher", required=True, help="weight file or name, or random")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 142, 250])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.data, options.out = options.data.absolute(), options.out.absolute()
    write_datalist(options.data, options.out / "datalist.json")
    runs = [metrics(options, seed) for seed in options.seeds]
    cells = []
    for unit, name in COLUMNS.values():
        values = [100 * run[unit][name] for run in runs]
        cells.append(f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""))
    sys.stdout.write(
        f"| teacher | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}\n| {Path(options.teacher).stem} | {' | '.join(cells)} |\n"
    )


if __name__ == "__main__":
    main()
