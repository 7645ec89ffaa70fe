"""``python -m monai_anomaly <verb>``: the small tools beside the bundles."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .errors import AnomalyError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; an :class:`~monai_anomaly.errors.AnomalyError` becomes one line on standard error and exit status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m monai_anomaly", description="Anomaly detection in medical images, trained on normal scans alone."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    cost = verbs.add_parser("cost", help="parameters and multiply-accumulates of a system (the Skip-TS paper's Table IV)")
    cost.add_argument("--system", default="SkipTS", help="SkipTS or TraditionalKD (default: %(default)s)")
    cost.add_argument("--backbone", default="wide_resnet50_2", help="the teacher, a torchvision ResNet (default: %(default)s)")
    cost.add_argument("--image_size", type=int, default=256, help="side of the square image in pixels (default: %(default)s)")
    cost.set_defaults(run=_cost)

    study = verbs.add_parser("study", help="write the built-in, made-up head CT study as DICOM series")
    study.add_argument("folder", help="folder to make; it must not exist yet")
    study.add_argument("--seed", type=int, default=0, help="another seed makes other patients (default: %(default)s)")
    study.set_defaults(run=_study)

    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except AnomalyError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _cost(options: argparse.Namespace) -> None:
    from .errors import OptionError
    from .networks import CONVENTION, SYSTEMS, Teacher, count_cost

    if options.system not in SYSTEMS:
        raise OptionError(f"There is no system called {options.system!r}; expected one of {', '.join(SYSTEMS)}.")
    if options.image_size < 32 or options.image_size % 32:
        raise OptionError(f"image_size is {options.image_size}; expected a multiple of 32.")
    teacher = Teacher(options.backbone, weights=None, stages=3 if options.system == "TraditionalKD" else 4)
    rows = count_cost(SYSTEMS[options.system](teacher), options.image_size)
    lines = [f"{options.system} with {options.backbone}, one image of 3 x {options.image_size} x {options.image_size}", ""]
    lines += [f"{'part':<10}{'parameters':>16}{'trainable':>16}{'MACs':>20}"]
    lines += [f"{row.part:<10}{row.parameters:>16,}{row.trainable:>16,}{row.macs:>20,}" for row in rows]
    lines += ["", CONVENTION]
    sys.stdout.write("\n".join(lines) + "\n")


def _study(options: argparse.Namespace) -> None:
    from .data.study import write_study

    sys.stdout.write(f"{write_study(options.folder, seed=options.seed)}\n")


if __name__ == "__main__":
    sys.exit(main())
