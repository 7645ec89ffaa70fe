"""How fast, and in how much memory, ``python -m monai_anomaly index`` reads an export: many made-up CT series with headers as long as a scanner's.

    python benchmarks/index_speed.py --files 100000 --folder /tmp/export

The folder is made if it is not there; the second of two runs is measured, so that the files are in the page cache. Prints files a second and the peak of the
resident memory, of the process and of its largest worker.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from tqdm import tqdm

SLICES = 25
PRIVATE = 120
"""Further elements in each header: a scanner writes 100 to 300 in all."""


def make(folder: Path, n_files: int) -> None:
    """Write the series: 16 x 16 pixels, real geometry, many elements."""
    rng = np.random.default_rng(0)
    for series in tqdm(range(n_files // SLICES), desc="making series"):
        place = folder / f"patient{series // 4:05}" / f"series{series:05}"
        place.mkdir(parents=True)
        patient, study, uid, frame = f"ID{series // 4:06}", generate_uid(), generate_uid(), generate_uid()
        for k in range(SLICES):
            dataset = Dataset()
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
            dataset.Modality, dataset.PatientID, dataset.PatientName = "CT", patient, f"Name{series // 4}^Given"
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, uid, frame
            dataset.InstanceNumber, dataset.AcquisitionNumber, dataset.AcquisitionTime = k + 1, 1, f"1200{k:02}"
            dataset.Rows = dataset.Columns = 16
            dataset.PixelSpacing, dataset.SliceThickness = [0.5, 0.5], 5
            dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-100, -100, 5 * k]
            dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
            dataset.BitsAllocated = dataset.BitsStored = 16
            dataset.HighBit, dataset.PixelRepresentation = 15, 1
            dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
            block = dataset.private_block(0x0029, "MADE UP", create=True)
            for number in range(PRIVATE):
                block.add_new(number, "LO", f"value {number}")
            dataset.PixelData = rng.integers(0, 1000, (16, 16), dtype="<i2").tobytes()
            dataset.save_as(place / f"IM{k:04}", enforce_file_format=True)


def main() -> None:
    """Make, index twice, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    if not options.folder.is_dir():
        make(options.folder, options.files)
    script = (
        "import resource, sys, time; from monai_anomaly.data.find import find_sources; before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "start = time.perf_counter(); sources, refused, n_files, _ = find_sources(sys.argv[1]); took = time.perf_counter() - start;"
        "print(len(sources), len(refused), n_files, took, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,"
        " resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    for _ in range(2):
        start = time.perf_counter()
        found = subprocess.run(
            [sys.executable, "-c", script, str(options.folder)], check=True, capture_output=True, text=True
        ).stdout.split()
        whole = time.perf_counter() - start
    sources, refused, n_files = map(int, found[:3])
    took, before, peak, worker = map(float, found[3:])
    sys.stdout.write(
        f"{n_files:,} files, {sources:,} series, {refused:,} refused: {n_files / took:,.0f} files/s ({took:.1f} s; {whole:.1f} s with Python's start); "
        f"peak {peak / 1024:,.0f} MiB, of which {before / 1024:,.0f} before the first file; largest worker {worker / 1024:,.0f} MiB\n"
    )


if __name__ == "__main__":
    main()
