"""Slices: every one once, with the right label, mask and place."""

from __future__ import annotations

import logging
import pickle

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from PIL import Image

from monai_anomaly.data import CaseReader, SliceDataset, find_cases
from monai_anomaly.errors import DataError, OptionError

SIDE = 16


def picture(path, value=None, shape=(20, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, shape) if value is None else np.full(shape, value)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return str(path)


@pytest.fixture
def study(tmp_path, series):
    """Three series of 5, 3 and 4 slices, an image, and a mask on the grid of the second, marked in its last slice only."""
    rng = np.random.default_rng(0)
    data = []
    for number, n in enumerate([5, 3, 4]):
        pixels = rng.integers(0, 80, (20, 24, n)).astype(float)
        if number == 0:
            pixels[..., 1] = -1000.0  # an empty slice
        series(tmp_path / str(number), n=n, shape=(20, 24), uid=f"1.2.{number + 1}", pixels=pixels)
        data.append({"image": find_cases(tmp_path / str(number)).cases[0]["image"], "series": f"s{number}", "label": int(number > 0)})
    array, meta = CaseReader().get_data(CaseReader().read(data[1]["image"]))
    mask = np.zeros(array.shape, np.uint8)
    mask[4:10, 3:9, 2] = 1
    nib.save(nib.Nifti1Image(mask.transpose(1, 0, 2), meta["affine"][:, [1, 0, 2, 3]]), tmp_path / "mask.nii.gz")
    data[1]["mask"] = str(tmp_path / "mask.nii.gz")
    return [*data, {"image": picture(tmp_path / "a.png"), "series": "a", "label": 1}]


def table(dataset, workers=0, shuffle=False, batch_size=4):
    rows = []
    for batch in DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, num_workers=workers):
        for k in range(len(batch["case"])):
            rows.append(
                (
                    int(batch["case"][k]),
                    int(batch["slice_index"][k]),
                    round(float(batch["image"][k].double().sum()), 3),
                    int(batch["label"][k]),
                )
            )
    return rows


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_slice_once_with_any_number_of_workers(study, chain, keep, workers):
    dataset = SliceDataset(study, chain(SIDE), SIDE, keep=keep, progress=False)
    rows = table(dataset, workers, shuffle=keep)
    assert sorted(row[:2] for row in rows) == [(c, k) for c, n in enumerate([5, 3, 4, 1]) for k in range(n)] == dataset.index
    assert sorted(rows) == sorted(table(SliceDataset(study, chain(SIDE), SIDE, keep=not keep, progress=False)))


def test_sample(study, chain):
    for keep in (True, False):
        dataset = SliceDataset(study, chain(SIDE), SIDE, keep=keep, progress=False)
        sample = dataset[7]  # third slice of the second case
        assert type(sample["image"]) is torch.Tensor and sample["image"].shape == (3, SIDE, SIDE) and sample["image"].dtype == torch.float32
        assert (
            sample["mask"].dtype == torch.uint8 and sample["mask"].shape == (1, SIDE, SIDE) and sample["mask"].unique().tolist() == [0, 1]
        )
        assert (sample["case"], sample["slice_index"], sample["label"], sample["empty"], sample["refused"], sample["has_mask"]) == (
            1,
            2,
            1,
            False,
            "",
            True,
        )
        assert [dataset[i]["label"] for i in range(13)] == [0] * 5 + [0, 0, 1] + [-1] * 4 + [1]
        assert [dataset[i]["has_mask"] for i in range(13)] == [True] * 8 + [False] * 5
        assert dataset[1]["empty"] and not dataset[0]["empty"]


def test_slices_are_the_right_ones(study, chain):
    dataset = SliceDataset(study, chain(20), 20, progress=False)
    array, _ = CaseReader().get_data(CaseReader().read(study[2]["image"]))
    unit = np.clip(array[..., 3] / 80, 0, 1)
    wide = torch.nn.functional.interpolate(torch.from_numpy(unit)[None, None], size=(20, 20), mode="bilinear", antialias=True)[0, 0]
    np.testing.assert_allclose(dataset[11]["image"][1], (wide - 0.456) / 0.224, atol=1e-5)


def test_empty_slices_are_left_out_and_counted(study, chain):
    dataset = SliceDataset(study, chain(SIDE), SIDE, drop_empty=True, progress=False)
    assert dataset.n_empty == 1 and len(dataset) == 12 and (0, 1) not in dataset.index
    full = SliceDataset(study, chain(SIDE), SIDE, progress=False)
    assert torch.equal(dataset[1]["image"], full[2]["image"]) and dataset[1]["slice_index"] == 2
    with pytest.raises(OptionError, match="without keep"):
        SliceDataset(study, chain(SIDE), SIDE, keep=False, drop_empty=True)


@pytest.fixture
def broken(study, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes((tmp_path / "a.png").read_bytes()[:150])
    bad_mask = picture(tmp_path / "small_mask.png", 255, (3, 3))
    contradiction = {"image": study[3]["image"], "series": "n", "label": 0, "mask": picture(tmp_path / "full.png", 255)}
    return [{"image": str(path), "series": "broken", "label": 0}, study[0], {**study[3], "mask": bad_mask}, contradiction]


def test_a_bad_case_is_left_out_in_training(broken, chain, caplog):
    caplog.set_level(logging.WARNING)
    dataset = SliceDataset(broken, chain(SIDE), SIDE, progress=False)
    assert [refusal.where for refusal in dataset.refused] == ["broken (broken.png)", "a (a.png)", "n (a.png)"]
    assert "cannot be decoded" in dataset.refused[0].reason and "(3, 3, 1), the image (20, 24, 1)" in dataset.refused[1].reason
    assert "label 0 (normal) and a mask" in dataset.refused[2].reason
    assert len([record for record in caplog.records if "Left out" in record.message]) == 3
    assert dataset.index == [(1, k) for k in range(5)] and dataset.cases == dataset.data == broken


def test_a_bad_case_never_ends_a_batch(broken, chain):
    dataset = SliceDataset(broken, chain(SIDE), SIDE, keep=False, progress=False)
    (batch,) = DataLoader(dataset, batch_size=8)
    assert [bool(reason) for reason in batch["refused"]] == [True] + [False] * 5 + [True, True]
    assert (
        batch["label"].tolist() == [-1] + [0] * 5 + [-1, -1]
        and batch["image"][0].abs().max() == 0
        and batch["has_mask"].tolist() == [False] + [True] * 5 + [False] * 2
    )
    assert batch["empty"].dtype == torch.bool and batch["mask"].shape == (8, 1, SIDE, SIDE)


def test_nothing_left(tmp_path, chain):
    flat = {"image": picture(tmp_path / "flat.png", 7), "series": "flat"}
    with pytest.raises(DataError, match="1 slices empty"):
        SliceDataset([flat], chain(SIDE), SIDE, drop_empty=True, progress=False)
    with pytest.raises(DataError, match="1 of 1 cases refused"):
        SliceDataset([{"image": str(tmp_path / "gone.png"), "series": "gone"}], chain(SIDE), SIDE, progress=False)
    with pytest.raises(DataError, match="no cases"):
        SliceDataset([], chain(SIDE), SIDE)


def test_a_lesion_smaller_than_a_pixel_is_still_a_lesion(tmp_path, chain):
    mask = np.zeros((64, 64), np.uint8)
    mask[1, 1] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    case = {"image": picture(tmp_path / "a.png", shape=(64, 64)), "mask": str(tmp_path / "m.png"), "label": 1, "series": "a"}
    sample = SliceDataset([case], chain(8), 8, progress=False)[0]
    assert sample["mask"].sum() == 0 and sample["label"] == 1


def test_scoring_holds_one_case_and_decodes_each_once(study, chain):
    calls = []
    inner = chain(SIDE)

    def transform(case):
        calls.append(case["series"])
        return inner(case)

    dataset = SliceDataset(study, transform, SIDE, keep=False)
    assert calls == []
    table(dataset)
    assert calls == ["s0", "s1", "s2", "a"]


def test_can_be_sent_to_a_worker(study, chain):
    dataset = SliceDataset(study, chain(SIDE), SIDE, progress=False)
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[3]["image"], dataset[3]["image"])


@pytest.mark.real
def test_busi(shared, chain):
    found = find_cases(shared / "data/busi")
    dataset = SliceDataset(found.cases, chain(64), 64, progress=False)
    assert len(dataset) == 85 and not dataset.refused and sum(dataset[i]["label"] for i in range(85)) == 40
    for i in range(85):
        assert bool(dataset[i]["mask"].any()) == (dataset[i]["label"] == 1)
