"""The made-up DICOM files are what the standard asks for: else they would prove nothing about real ones."""

from __future__ import annotations

import numpy as np
import pydicom.uid as sop
import pytest
from highdicom._standard_utils import check_required_attributes, get_iod_module_map, get_sop_class_iod_map
from pydicom import dcmread
from support.dicom import make_picture, make_series
from support.dicom_frames import make_enhanced, make_oct

GREY = np.arange(80, dtype=np.uint8).reshape(8, 10)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)

MACROS = {"PixelMeasuresSequence", "FrameContentSequence", "PlanePositionSequence", "PlaneOrientationSequence"}
MADE = {
    "CT": lambda path: make_series(path, n=1) / "IM0000",
    "MR": lambda path: make_series(path, n=1, modality="MR") / "IM0000",
    "enhanced CT": lambda path: make_enhanced(path / "a"),
    "enhanced MR": lambda path: make_enhanced(path / "a", modality="MR", stacks=2),
    "OPT": lambda path: make_oct(path / "a", np.zeros((3, 4, 5), np.uint8)),
    "cine": lambda path: make_picture(
        path / "a", np.stack([COLOUR] * 3), modality="US", sop_class=sop.UltrasoundMultiFrameImageStorage, frame_time_ms=40
    ),
    "US": lambda path: make_picture(path / "a", COLOUR, modality="US", sop_class=sop.UltrasoundImageStorage, photometric="YBR_FULL"),
    "CR": lambda path: make_picture(
        path / "a", GREY.astype(np.uint16), modality="CR", sop_class=sop.ComputedRadiographyImageStorage, photometric="MONOCHROME1", bits=10
    ),
    "DX": lambda path: make_picture(
        path / "a",
        GREY.astype(np.uint16),
        modality="DX",
        sop_class=sop.DigitalXRayImageStorageForPresentation,
        photometric="MONOCHROME1",
        bits=12,
    ),
    "SC": lambda path: make_picture(path / "a", GREY),
    "palette": lambda path: make_picture(
        path / "a", GREY, palette=np.stack([np.arange(256)] * 3, axis=1), modality="US", sop_class=sop.UltrasoundImageStorage
    ),
}


@pytest.mark.parametrize("kind", MADE)
def test_every_mandatory_module_is_complete(tmp_path, kind):
    dataset = dcmread(MADE[kind](tmp_path))
    dataset.walk(lambda parent, element: element.value)  # every element can be read
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    for module in get_iod_module_map()[get_sop_class_iod_map()[dataset.SOPClassUID]]:
        if module["usage"] == "M":
            frames = module["key"].endswith("functional-groups")  # their table lists every macro that may be there
            check_required_attributes(dataset, module["key"], recursive=not frames)
            for place in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence") if frames else ():
                for groups in dataset[place]:
                    for group in groups:
                        check_required_attributes(group.value[0], module["key"], base_path=[place, group.keyword])
            if frames:
                assert {
                    group.keyword
                    for place in (dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[0])
                    for group in place
                } >= MACROS


def test_made_twice_is_the_same(tmp_path):
    for kind in ("CT", "enhanced MR", "OPT"):
        first = MADE[kind](tmp_path / kind).read_bytes()
        assert MADE[kind](tmp_path / kind).read_bytes() == first
