"""Train and evaluate Skip-TS on folders of real images by the bundle's own commands, and print the table.

    python benchmarks/real_images.py --data DIR --sets head_ct brain_mri busi --teachers resnet18.pth random --epochs 60 --seeds 42 142 250 --out runs

Each run is one ``monai.bundle run`` of bundles/skipts/train.json with the whole training split (calibration_fraction 0) and the last epoch; further
map and pooling rules are evaluations of the same model. Finished runs are not repeated. Every figure is a mean with its standard deviation over the
seeds, in percent, computed from the metrics.json files.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

RULES: dict[str, dict[str, Any]] = {
    "M1+M2+M3, max (paper)": {},
    "M2+M3, max": {"maps": [2, 3]},
    "M2+M3, top 20 %": {"maps": [2, 3], "pooling": "top_20%"},
}


def bundle(config: str, **flags: object) -> None:
    """Run one of the bundle's configs, as a user would."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", f"bundles/skipts/{config}.json"]
    for name, value in flags.items():
        command += [f"--{name}", str(value)]
    sys.stderr.write(f"$ {' '.join(command[1:])}\n")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def results(data: Path, out: Path, name: str, teacher: str, seed: int, epochs: int, rule: str) -> dict[str, Any]:
    """Metrics of one run under one rule; trains and evaluates what is not there yet."""
    folder = out / name / Path(teacher).stem / f"seed{seed}"
    if not (folder / "evaluation" / "metrics.json").is_file():
        bundle("train", dataset_dir=data / name, backbone="resnet18", teacher_weights=teacher, epochs=epochs, seed=seed,
               calibration_fraction=0, val_interval=epochs, refresh_batch_norm=False, output_dir=folder)  # fmt: skip
    place = folder / ("evaluation" if not RULES[rule] else f"evaluation {rule}".replace(" ", "_").replace("%", "pct"))
    if not (place / "metrics.json").is_file():
        bundle("evaluate", dataset_dir=data / name, model=folder / "model.pt", output_dir=place, **RULES[rule])
    found: dict[str, Any] = json.loads((place / "metrics.json").read_text())["metrics"]
    return found


def cell(values: list[float]) -> str:
    """Mean and standard deviation in percent."""
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else f"{100 * values[0]:.1f}"


def main() -> None:
    """Run everything and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the sets")
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--teachers", nargs="+", required=True, help="weight files or names, or random")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 142, 250])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument(
        "--rules", type=int, default=len(RULES), help="how many of the map and pooling rules, the paper's first (default: all)"
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    lines = [
        "| set | teacher | rule | image AUROC | image AP | mean intensity | pixel AUROC | pixel AP | AUPRO |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in options.sets:
        for teacher in options.teachers:
            for rule in list(RULES)[: options.rules]:
                runs = [results(options.data, options.out, name, teacher, seed, options.epochs, rule) for seed in options.seeds]
                image = [run["image"] for run in runs]
                cells = [
                    cell([row["auroc"] for row in image]),
                    cell([row["ap"] for row in image]),
                    f"{100 * image[0]['baseline_mean_intensity_auroc']:.1f}",
                ]
                cells += [cell([run["pixel"][key] for run in runs]) if "pixel" in runs[0] else "" for key in ("auroc", "ap", "aupro")]
                lines.append(f"| {name} | {Path(teacher).stem} | {rule} | " + " | ".join(cells) + " |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
