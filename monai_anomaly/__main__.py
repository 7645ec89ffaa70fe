"""``python -m monai_anomaly <verb>``: the small tools beside the bundles."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ._optional_decoder import ignore_optional_decoder
from .errors import AnomalyError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; an :class:`~monai_anomaly.errors.AnomalyError` becomes one line on standard error and exit status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m monai_anomaly", description="Anomaly detection in medical images, trained on normal scans alone."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    cost = verbs.add_parser("cost", help="parameters and multiply-accumulates of a system (the Skip-TS paper's Table IV)")
    cost.add_argument("--system", default="SkipTS", help="SkipTS, RD4AD, ESCDRKD, SCRD4AD, DRD or TraditionalKD (default: %(default)s)")
    cost.add_argument("--backbone", default="wide_resnet50_2", help="the teacher, a torchvision ResNet (default: %(default)s)")
    cost.add_argument("--image_size", type=int, default=256, help="side of the square image in pixels (default: %(default)s)")
    cost.set_defaults(run=_cost)

    study = verbs.add_parser("study", help="write the built-in, made-up head CT study as DICOM series")
    study.add_argument("folder", help="folder to make; it must not exist yet")
    study.add_argument("--seed", type=int, default=0, help="another seed makes other patients (default: %(default)s)")
    study.set_defaults(run=_study)

    index = verbs.add_parser("index", help="what a folder or an export holds: series, images, geometry, and what is refused and why")
    index.add_argument("folder", help="a folder, the DICOMDIR in it, or a zip archive")
    index.add_argument("--out", metavar="FILE", help="write what can be read as a MONAI datalist (JSON, by patient, all under testing)")
    index.add_argument("--csv", metavar="FILE", help="write one row for each series, image and refusal, numbers in full")
    index.add_argument("--force", action="store_true", help="replace files that exist")
    index.add_argument("--keep_ids", action="store_true", help="show patients, series and paths as they are, instead of pseudonyms")
    index.set_defaults(run=_index)

    export = verbs.add_parser("export", help="write a trained detector for another runtime, if it gives the same maps and p-values there")
    export.add_argument("--model", required=True, metavar="FILE", help="the model.pt that training wrote")
    export.add_argument("--format", required=True, choices=("torchscript", "onnx", "openvino"), help="what to write")
    export.add_argument("--out", required=True, metavar="FILE", help="the file to write: .ts, .onnx, or .xml (its .bin goes beside it)")
    export.add_argument("--dataset_dir", metavar="DATA", help="the data set of the training; not needed for the built-in study")
    export.add_argument("--force", action="store_true", help="replace files that exist")
    export.set_defaults(run=_export)

    bundle = verbs.add_parser("bundle", help="copy a bundle to a folder, to change its configs and to train it there")
    bundle.add_argument("bundle", help="a bundle's name, such as skipts")
    bundle.add_argument("--to", required=True, metavar="DIR", help="the copy goes into this folder, under the bundle's name")
    bundle.set_defaults(run=_bundle)

    pack = verbs.add_parser("pack", help="a bundle as one zip archive, with its model")
    pack.add_argument("bundle", help="a bundle's name, such as skipts, or its folder")
    pack.add_argument("--out", required=True, metavar="FILE", help="the archive to write; the folder in it is called the same")
    pack.add_argument("--model", metavar="FILE", help="the model.pt to put in (default: models/model.pt of the bundle, if it is there)")
    pack.add_argument("--force", action="store_true", help="replace an archive that exists")
    pack.set_defaults(run=_pack)

    doctor = verbs.add_parser(
        "doctor", help="what is installed, which devices, weights and folders a run finds, and what to do about what is missing"
    )
    doctor.set_defaults(run=_doctor)

    compare = verbs.add_parser("compare", help="train systems on data sets under one budget, and put them beside each other and the floors")
    compare.add_argument("--dataset_dir", nargs="+", required=True, metavar="DATA", help="data sets with labelled test cases")
    compare.add_argument(
        "--systems", nargs="+", metavar="SPEC",
        help="BUNDLE[+OVERLAY][:FLAG=VALUE,...], such as skipts 'skipts:maps=[2,3]' skipts+traditional_kd (default: every bundle as it is)",
    )  # fmt: skip
    compare.add_argument("--seeds", type=int, default=3, help="how many: 42, 142, 242, ... (default: %(default)s)")
    compare.add_argument("--epochs", type=int, default=30, help="of each training; the last one counts (default: %(default)s)")
    compare.add_argument(
        "--set", nargs="+", default=[], metavar="FLAG=VALUE", help="further flags of train.json for every run, such as backbone=resnet18"
    )
    compare.add_argument("--out", default="runs/compare", metavar="FOLDER", help="runs, JSON lines and table (default: %(default)s)")
    compare.set_defaults(run=_compare)

    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    options.command = shlex.join(["python", "-m", "monai_anomaly", *words])
    status = 0
    try:
        status = options.run(options) or 0
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough; Python would complain when it closes the stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except AnomalyError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return status


def _cost(options: argparse.Namespace) -> None:
    from .errors import OptionError
    from .networks import CONVENTION, SYSTEMS, Teacher, count_cost

    if options.system not in SYSTEMS:
        raise OptionError(f"There is no system called {options.system!r}; expected one of {', '.join(SYSTEMS)}.")
    if options.image_size < 32 or options.image_size % 32:
        raise OptionError(f"image_size is {options.image_size}; expected a multiple of 32.")
    system = SYSTEMS[options.system]
    rows = count_cost(system(Teacher(options.backbone, weights=None, stages=system.stages)), options.image_size)
    lines = [f"{options.system} with {options.backbone}, one image of 3 x {options.image_size} x {options.image_size}", ""]
    lines += [f"{'part':<12}{'parameters':>16}{'trainable':>16}{'MACs':>20}"]
    lines += [f"{row.part:<12}{row.parameters:>16,}{row.trainable:>16,}{row.macs:>20,}" for row in rows]
    lines += ["", CONVENTION]
    sys.stdout.write("\n".join(lines) + "\n")


def _study(options: argparse.Namespace) -> None:
    from .data.study import write_study

    sys.stdout.write(f"{write_study(options.folder, seed=options.seed)}\n")


def _index(options: argparse.Namespace) -> None:
    from .data import write_datalist
    from .data.find import find_sources
    from .data.index import COLUMNS, index_cases, index_rows, index_table
    from .errors import DataError, OptionError
    from .files import refuse_existing, write_csv

    wanted = [name for name in (options.out, options.csv) if name is not None]
    for name in wanted:
        refuse_existing(name, options.force)
    if len({Path(name).absolute() for name in wanted}) < len(wanted):
        raise OptionError(f"--out and --csv both name {wanted[0]}; expected two files.")
    sources, refused, n_files, root = find_sources(options.folder, keep_ids=options.keep_ids)
    if options.out is not None and sources:
        write_datalist(options.out, index_cases(sources))
    if options.csv is not None:
        write_csv(options.csv, index_rows(sources, refused), columns=COLUMNS)
    encoding = sys.stdout.encoding or "utf-8"
    for line in index_table(sources, refused, n_files):
        sys.stdout.write(line.encode(encoding, "replace").decode(encoding) + "\n")
    if not sources:
        raise DataError(
            f"Nothing in {root} can be read; expected images, NIfTI volumes or DICOM series: choose another folder, or mend what is refused."
        )


def _export(options: argparse.Namespace) -> None:
    from .export import MAP_TOLERANCE, export_detector

    ignore_optional_decoder()
    files, parity, usage = export_detector(options.model, options.format, options.out, options.dataset_dir, options.force)
    sizes = " and ".join(f"{path} ({path.stat().st_size / 1e6:.1f} MB)" for path in files)
    batches = " or ".join(map(str, parity.batch_sizes))
    lines = [
        f"{sizes}: agrees with {options.model} on {parity.n_slices} held-out normal slices, {batches} at a time.",
        f"Largest difference of a map {parity.map_difference:.1e} (allowed {MAP_TOLERANCE:.0e}), of a score {parity.score_difference:.1e}; "
        "the same p-value for each slice.",
        "",
        usage,
        "The image is float32 (batch, 3, height, width), prepared as the description in the file says: docs/export.md.",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _bundle(options: argparse.Namespace) -> None:
    from .pack import lay_out_bundle

    folder = lay_out_bundle(options.bundle, options.to)
    sys.stdout.write(f"{folder}. To train it:\n  python -m monai.bundle run --config_file {shlex.quote(str(folder / 'train.json'))}\n")


def _pack(options: argparse.Namespace) -> None:
    from .pack import MODEL, pack_bundle

    names = pack_bundle(options.bundle, options.out, options.model, options.force)
    top = Path(options.out).stem
    lines = [f"{options.out}: {len(names)} files in {top}/. To use it: install monai_anomaly, unzip it anywhere, and run from there"]
    lines.append(f"  python -m monai.bundle run --config_file {top}/inference.json --dataset_dir new_scans --output_dir runs/new_scans")
    if f"{top}/{MODEL}" not in names:
        lines[1:] = [
            f"  python -m monai.bundle run --config_file {top}/train.json",
            "There is no model in it: none was named, and the bundle has none.",
        ]
    sys.stdout.write("\n".join(lines) + "\n")


def _doctor(_: argparse.Namespace) -> int:
    from .doctor import examine, summary

    ignore_optional_decoder()
    findings = examine()
    sys.stdout.write("\n".join(summary(findings)) + "\n")
    return 2 if any(finding.is_broken for finding in findings) else 0


def _compare(options: argparse.Namespace) -> int:
    from .compare import compare, parse_flags
    from .pack import bundle_names

    ignore_optional_decoder()
    try:
        result = compare(
            options.dataset_dir, options.systems or bundle_names(), options.seeds, options.epochs, parse_flags(options.set), options.out,
            options.command,
        )  # fmt: skip
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted: what is written is whole, and the same command goes on.\n")
        return 130
    sys.stdout.write(result.table)
    return 2 if result.n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
