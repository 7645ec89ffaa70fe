"""Slices: every one once, with the right neighbours, label, mask and place, wherever they are kept."""

from __future__ import annotations

import logging
import pickle

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, Lambdad, LoadImaged, NormalizeIntensityd
from PIL import Image

from monai_anomaly.data import CaseCache, CaseReader, SliceDataset, find_cases
from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.transforms import MarkEmptySlicesd, OrientSlicesd, ResizeSlicesd, ScaleIntensityByModalityd, ToRGBd

SIDE = 16
TO_TEACHER = Compose(
    [ToRGBd("image"), NormalizeIntensityd("image", subtrahend=[0.485, 0.456, 0.406], divisor=[0.229, 0.224, 0.225], channel_wise=True)]
)


def chain(size=SIDE, plane="native", **options):
    """What the bundles do once per case."""
    return Compose(
        [
            LoadImaged(["image", "mask"], reader=CaseReader, ensure_channel_first=True, allow_missing_keys=True),
            OrientSlicesd("image", plane),
            ScaleIntensityByModalityd("image", **options),
            MarkEmptySlicesd("image"),
            ResizeSlicesd(["image", "mask"], size, allow_missing_keys=True),
        ]
    )


def slices(cases, size=SIDE, transform=None, **options):
    return SliceDataset(cases, transform or chain(size), size, **{"slice_transform": TO_TEACHER, "progress": False, **options})


def picture(path, value=None, shape=(20, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, shape) if value is None else np.full(shape, value)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return str(path)


def save_mask(mask, image, path):
    """On the grid of a case's image, in the order of ITK; ``mask`` is (row, column, slice)."""
    _, meta = CaseReader().get_data(CaseReader().read(image))
    nib.save(nib.Nifti1Image(mask.transpose(1, 0, 2), meta["affine"][:, [1, 0, 2, 3]]), path)
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
    mask = np.zeros((20, 24, 3), np.uint8)
    mask[4:10, 3:9, 2] = 1
    data[1]["mask"] = save_mask(mask, data[1]["image"], tmp_path / "mask.nii.gz")
    return [*data, {"image": picture(tmp_path / "a.png"), "series": "a", "label": 1}]


@pytest.fixture
def volume(tmp_path):
    """A NIfTI volume whose storage axes are none of the display's: (i, j, k) run to the left, up and back."""
    affine = np.array([[-2.0, 0, 0, 30], [0, 0, -3.0, 40], [0, 1.5, 0, -50], [0, 0, 0, 1]])
    voxels = np.random.default_rng(1).normal(size=(12, 10, 8)).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "volume.nii.gz")
    return {"image": str(tmp_path / "volume.nii.gz"), "series": "volume", "label": 0}


def equal(one, other) -> bool:
    """Whether two samples are the same, bit for bit."""
    return set(one) == set(other) and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name])
        if isinstance(one[name], torch.Tensor)
        else type(one[name]) is type(other[name]) and one[name] == other[name]
        for name in one
    )


def epoch(dataset, workers=0, shuffle=False):
    """All samples of an epoch by (case, slice); none may come twice."""
    found = {}
    for batch in DataLoader(dataset, batch_size=4, shuffle=shuffle, num_workers=workers):
        for row in range(len(batch["case"])):
            sample = {name: values[row] for name, values in batch.items()}
            place = int(sample["case"]), int(sample["slice_index"])
            assert place not in found
            found[place] = sample
    return found


WAYS = {
    "memory": lambda cache: {},
    "cache": lambda cache: {"cache": cache},
    "mapped": lambda cache: {"cache": cache, "max_memory_bytes": 0},
    "partly mapped": lambda cache: {"cache": cache, "max_memory_bytes": 7000},
    "scoring": lambda cache: {"keep": False},
    "scoring with a cache": lambda cache: {"keep": False, "cache": cache},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("workers", [0, 2])
def test_every_slice_once_and_bit_for_bit_the_same_wherever_it_is_kept(study, tmp_path, way, workers):
    plain = slices(study)
    assert plain.index == [(c, k) for c, n in enumerate([5, 3, 4, 1]) for k in range(n)]
    expected = epoch(plain)
    for _ in range(2):  # the second time the cache is filled
        dataset = slices(study, **way(CaseCache(tmp_path / "cache")))
        found = epoch(dataset, workers, shuffle=dataset._kept is not None)
        assert found.keys() == expected.keys() == set(dataset.index) and all(equal(found[place], expected[place]) for place in expected)


def test_each_way_keeps_what_it_says(study, tmp_path, caplog):
    caplog.set_level(logging.INFO, "monai_anomaly")
    one_slice = SIDE * SIDE * 4
    for way, memory, disk in (("memory", 13, 0), ("mapped", 0, 13), ("partly mapped", 6, 7)):
        dataset = slices(study, **WAYS[way](CaseCache(tmp_path / "cache")))
        kept = dataset._kept
        # on the disk lie also masks and places
        assert kept.memory_bytes // one_slice == memory and disk <= kept.disk_bytes / one_slice <= disk * 1.3, way
    said = [message for message in caplog.messages if message.startswith("Read 13 slices of 4 cases")]
    assert ["0 cases from the cache" in message for message in said] == [True, True, False] and dataset.n_cached == 4


def test_sample(study):
    for keep in (True, False):
        dataset = slices(study, keep=keep)
        sample = dataset[7]  # third slice of the second case
        assert type(sample["image"]) is torch.Tensor and sample["image"].shape == (3, SIDE, SIDE) and sample["image"].dtype == torch.float32
        assert sample["mask"].dtype == torch.uint8 and sample["mask"].shape == (1, SIDE, SIDE)
        assert sample["mask"].unique().tolist() == [0, 1] and not dataset[6]["mask"].any() and not dataset[0]["mask"].any()
        plain = {name: sample[name] for name in ("case", "slice_index", "label", "empty", "refused", "has_mask", "in_patient")}
        assert plain == {"case": 1, "slice_index": 2, "label": 1, "empty": False, "refused": "", "has_mask": True, "in_patient": True}
        assert [dataset[i]["label"] for i in range(13)] == [0] * 5 + [0, 0, 1] + [-1] * 4 + [1]
        assert [dataset[i]["has_mask"] for i in range(13)] == [True] * 8 + [False] * 5
        assert dataset[1]["empty"] and not dataset[0]["empty"] and not dataset[12]["in_patient"]
        assert dataset[12]["source_shape"].tolist() == [20, 24, 1]
        assert dataset.intensity == {"CT window brain 0 to 80 HU": 3, "image storage range 0 to 255": 1}


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(
    ("plane", "shape"), [("native", (10, 12, 8)), ("coronal", (10, 12, 8)), ("axial", (8, 12, 10)), ("sagittal", (10, 8, 12))]
)
def test_slices_of_any_plane_with_their_places(volume, tmp_path, keep, plane, shape):
    transform, cache = chain(8, plane=plane), CaseCache(tmp_path / "cache")
    turned = OrientSlicesd("image", plane)(LoadImaged("image", reader=CaseReader, ensure_channel_first=True)(dict(volume)))["image"]
    for _ in range(2):  # decoded, and from the cache
        dataset = slices([volume], 8, transform, keep=keep, cache=cache)
        sample = dataset[shape[2] - 1]
        assert len(dataset) == shape[2] and not sample["refused"] and sample["in_patient"] is True
        assert sample["slice_shape"].tolist() == list(shape) == turned.meta["slice_shape"].tolist()
        assert sample["source_shape"].tolist() == [10, 12, 8]
        assert sample["slice_affine"].dtype == sample["source_affine"].dtype == torch.float64
        np.testing.assert_array_equal(sample["slice_affine"], turned.meta["slice_affine"])
        np.testing.assert_array_equal(sample["source_affine"], turned.meta["original_affine"])


def test_without_turning_the_slices_lie_as_the_file_says(volume):
    transform = Compose([step for step in chain(8).transforms if not isinstance(step, OrientSlicesd)])
    sample = slices([volume], 8, transform)[0]
    np.testing.assert_array_equal(sample["slice_affine"], sample["source_affine"])
    assert sample["slice_shape"].tolist() == sample["source_shape"].tolist() == [10, 12, 8]
    assert sample["source_affine"].tolist() == [[0, -2, 0, 30], [0, 0, -3, 40], [1.5, 0, 0, -50], [0, 0, 0, 1]]


def test_slices_are_the_right_ones(study):
    array, _ = CaseReader().get_data(CaseReader().read(study[2]["image"]))
    unit = np.clip(array[..., 3] / 80, 0, 1)
    wide = torch.nn.functional.interpolate(torch.from_numpy(unit)[None, None], size=(20, 20), mode="bilinear", antialias=True)[0, 0]
    np.testing.assert_allclose(slices(study, 20)[11]["image"][1], (wide - 0.456) / 0.224, atol=1e-5)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_neighbours_become_channels_and_repeat_at_the_ends(study, tmp_path, way):
    alone = slices(study, slice_transform=ToRGBd("image"))
    dataset = slices(study, slice_transform=None, neighbours=1, **way(CaseCache(tmp_path / "cache")))
    assert dataset.index == alone.index
    grey = {place: alone[item]["image"][0] for item, place in enumerate(alone.index)}
    for item, (case, k) in enumerate(dataset.index):
        last = [5, 3, 4, 1][case] - 1
        expected = torch.stack([grey[case, max(k - 1, 0)], grey[case, k], grey[case, min(k + 1, last)]])
        assert torch.equal(dataset[item]["image"], expected)
        assert torch.equal(dataset[item]["mask"], alone[item]["mask"]) and dataset[item]["label"] == alone[item]["label"]


def test_a_neighbour_may_be_a_slice_that_is_left_out(study):
    whole, few = slices(study, neighbours=1), slices(study, neighbours=1, drop_empty=True, drop_marked=True)
    assert set(whole.index) - set(few.index) == {(0, 1), (1, 2)}
    assert all(equal(few[item], whole[whole.index.index(place)]) for item, place in enumerate(few.index))


def test_neighbours_need_no_more_memory(study):
    assert slices(study, neighbours=1)._kept.memory_bytes == slices(study)._kept.memory_bytes == (13 * 4 + 3) * SIDE * SIDE


def test_neighbours_of_a_colour_image_are_refused_in_a_sentence(study, tmp_path):
    colour = {"image": picture(tmp_path / "colour.png", shape=(20, 24, 3)), "series": "colour"}
    assert slices([*study, colour])[13]["image"].std(dim=0).max() > 0.1
    for keep in (True, False):
        dataset = slices([*study, colour], neighbours=1, keep=keep)
        reason = dataset.refused[0].reason if keep else dataset[13]["refused"]
        assert "3 channels; expected 1 (grey)" in reason and len(dataset) == 13 + (not keep)
    for neighbours in (2, -1, 0.5):
        with pytest.raises(OptionError, match="0 or 1"):
            slices(study, neighbours=neighbours)


def test_what_a_slice_transform_changes_in_place_is_not_what_is_kept(study, tmp_path):
    colour = {"image": picture(tmp_path / "colour.png", shape=(20, 24, 3)), "series": "colour"}

    def blacken(sample):
        sample["image"][:] = 0
        return {"image": sample["image"].expand(3, -1, -1)}

    for way in WAYS.values():
        dataset = slices([*study, colour], **way(CaseCache(tmp_path / "cache")))
        before = [dataset[item] for item in range(14)]
        dataset.slice_transform = blacken
        assert all(dataset[item]["image"].abs().max() == 0 for item in range(14))
        dataset.slice_transform = TO_TEACHER
        assert all(equal(dataset[item], sample) for item, sample in enumerate(before))


def test_a_slice_must_become_three_channels(study):
    with pytest.raises(DataError, match=r"shape \(1, 16, 16\); expected \(3, 16, 16\)"):
        slices(study, slice_transform=None)
    assert "shape (1, 16, 16)" in slices(study, slice_transform=None, keep=False)[0]["refused"]


def test_empty_slices_are_left_out_and_counted(study):
    dataset, full = slices(study, drop_empty=True), slices(study)
    assert dataset.n_empty == 1 and len(dataset) == 12 and (0, 1) not in dataset.index and dataset.n_marked == 0
    assert torch.equal(dataset[1]["image"], full[2]["image"]) and dataset[1]["slice_index"] == 2


@pytest.mark.parametrize("flag", ["drop_empty", "drop_marked"])
def test_nothing_is_left_out_unseen(study, flag):
    with pytest.raises(OptionError, match="without keep"):
        slices(study, keep=False, **{flag: True})


def test_marked_slices_are_left_out_and_counted_and_the_others_are_normal(study, caplog):
    caplog.set_level(logging.INFO)
    unknown = {name: value for name, value in study[1].items() if name != "label"}
    assert [slices([study[0], unknown])[item]["label"] for item in range(8)] == [0] * 7 + [1]
    dataset = slices([study[0], unknown], drop_marked=True, drop_empty=True)
    assert dataset.n_marked == 1 and dataset.n_empty == 1 and dataset.index == [(0, 0), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1)]
    assert all(dataset[item]["label"] == 0 and not dataset[item]["mask"].any() and dataset[item]["has_mask"] for item in range(6))
    assert "1 slices empty, 1 marked" in caplog.messages[-1]


def test_a_marked_slice_that_is_empty_is_counted_once(study, tmp_path):
    case = {
        "image": study[0]["image"],
        "series": "s0",
        "mask": save_mask(np.uint8([0, 1, 1, 0, 0]) * np.ones((20, 24, 1), np.uint8), study[0]["image"], tmp_path / "m.nii"),
    }
    dataset = slices([case], drop_marked=True, drop_empty=True)
    assert (dataset.n_empty, dataset.n_marked, dataset.index) == (1, 1, [(0, 0), (0, 3), (0, 4)])


def test_a_normal_case_with_marks_stays_an_error(study):
    dataset = slices([study[0], study[1] | {"label": 0}], drop_marked=True)
    assert len(dataset) == 5 and "label 0 (normal) and a mask with marked pixels" in dataset.refused[0].reason


def test_a_label_that_changes_counts_although_the_pixels_are_cached(study, tmp_path):
    cache = CaseCache(tmp_path / "cache")
    assert slices([study[3]], cache=cache)[0]["label"] == 1 and slices([study[3] | {"label": 0}], cache=cache)[0]["label"] == 0


@pytest.fixture
def broken(study, tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes((tmp_path / "a.png").read_bytes()[:150])
    bad_mask = picture(tmp_path / "small_mask.png", 255, (3, 3))
    contradiction = {"image": study[3]["image"], "series": "n", "label": 0, "mask": picture(tmp_path / "full.png", 255)}
    return [{"image": str(path), "series": "broken", "label": 0}, study[0], {**study[3], "mask": bad_mask}, contradiction]


@pytest.mark.parametrize("cached", [False, True])
def test_a_bad_case_is_left_out_in_training(broken, tmp_path, cached, caplog):
    caplog.set_level(logging.WARNING)
    dataset = slices(broken, cache=CaseCache(tmp_path / "cache") if cached else None)
    assert [refusal.where for refusal in dataset.refused] == ["broken (broken.png)", "a (a.png)", "n (a.png)"]
    assert "cannot be decoded" in dataset.refused[0].reason and "(3, 3, 1), the image (20, 24, 1)" in dataset.refused[1].reason
    assert "label 0 (normal) and a mask" in dataset.refused[2].reason
    assert len([record for record in caplog.records if "Left out" in record.message]) == 3
    assert dataset.index == [(1, k) for k in range(5)] and dataset.cases == broken
    assert dataset.intensity == {"CT window brain 0 to 80 HU": 1}


def test_an_error_that_is_its_own_cause_gives_its_reason():
    error = RuntimeError("it failed")
    error.__cause__ = error

    def fail(case):
        raise error

    with pytest.raises(DataError, match=r"1 of 1 cases refused.*RuntimeError: it failed"):
        SliceDataset([{"image": "1.png"}], fail, spatial_size=SIDE, progress=False)


@pytest.mark.parametrize("neighbours", [0, 1])
def test_a_bad_case_never_ends_a_batch(broken, neighbours):
    dataset = slices(broken, keep=False, neighbours=neighbours)
    (batch,) = DataLoader(dataset, batch_size=8)
    assert [bool(reason) for reason in batch["refused"]] == [True] + [False] * 5 + [True, True]
    assert batch["label"].tolist() == [-1] + [0] * 5 + [-1, -1] and batch["image"][0].abs().max() == 0
    assert batch["has_mask"].tolist() == [False] + [True] * 5 + [False] * 2 and batch["in_patient"].tolist() == batch["has_mask"].tolist()
    assert batch["empty"].dtype == torch.bool and batch["mask"].shape == (8, 1, SIDE, SIDE)


def test_nothing_left(tmp_path, study):
    flat = {"image": picture(tmp_path / "flat.png", 7), "series": "flat"}
    with pytest.raises(DataError, match="1 slices empty"):
        slices([flat], drop_empty=True)
    with pytest.raises(DataError, match="1 of 1 cases refused"):
        slices([{"image": str(tmp_path / "gone.png"), "series": "gone"}])
    with pytest.raises(DataError, match="1 marked"):
        slices([{"image": study[3]["image"], "mask": picture(tmp_path / "full.png", 255)}], drop_marked=True)
    with pytest.raises(DataError, match="no cases"):
        slices([])


def test_a_lesion_smaller_than_a_pixel_is_still_a_lesion(tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[1, 1] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    case = {"image": picture(tmp_path / "a.png", shape=(64, 64)), "mask": str(tmp_path / "m.png"), "label": 1, "series": "a"}
    for _ in range(2):
        sample = slices([case], 8, cache=CaseCache(tmp_path / "cache"))[0]
        assert sample["mask"].sum() == 0 and sample["label"] == 1


def test_scoring_holds_one_case_and_decodes_each_once(study):
    calls = []

    def note(case):
        calls.append(case["series"])
        return chain()(case)

    dataset = slices(study, transform=note, keep=False)
    assert calls == []
    epoch(dataset)
    assert calls == ["s0", "s1", "s2", "a"]


def test_what_is_in_the_cache_is_not_decoded_again(study, tmp_path):
    for _ in range(2):
        calls = []
        Step = type("Step", (), {"__module__": "monai.transforms", "__call__": lambda self, case: calls.append(1) or chain()(case)})  # noqa: B023
        dataset = slices(study, transform=Step(), cache=CaseCache(tmp_path / "cache"))
    assert calls == [] and dataset.n_cached == 4
    np.asarray(Image.open(study[3]["image"]))
    picture(tmp_path / "a.png", 50)  # edited
    assert slices(study, transform=Step(), cache=CaseCache(tmp_path / "cache")).n_cached == 3 and calls == [1]


def test_random_preprocessing_is_not_cached(study, tmp_path, caplog):
    transform = Compose([*chain().transforms, Lambdad("image", lambda image: image + torch.zeros(1), overwrite=True)])
    transform.transforms[-1].drawn = np.random.default_rng()
    for _ in range(2):
        assert slices(study, transform=transform, cache=CaseCache(tmp_path / "cache")).n_cached == 0
    assert len([record for record in caplog.records if "Nothing is cached: numpy" in record.message]) == 2  # once per run
    assert not (tmp_path / "cache").exists()


def test_an_entry_that_vanishes_during_the_run_is_decoded_again(study, tmp_path):
    expected = slices(study)
    dataset = slices(study, **WAYS["mapped"](CaseCache(tmp_path / "cache")))
    for path in (tmp_path / "cache").glob("*.safetensors"):
        path.unlink()
    assert all(equal(dataset[item], expected[item]) for item in range(13))
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 4


def test_a_volume_that_changes_its_length_during_the_run_is_an_error(volume, tmp_path):
    dataset = slices([volume], 8, cache=CaseCache(tmp_path / "cache"), max_memory_bytes=0)
    nib.save(nib.Nifti1Image(np.random.rand(12, 10, 5), nib.load(volume["image"]).affine), volume["image"])
    next((tmp_path / "cache").glob("*.safetensors")).unlink()
    with pytest.raises(DataError, match="had 8 slices when the run began and has 5 now"):
        dataset[0]


def test_too_little_memory_is_said_with_figures_and_a_way_out(study, tmp_path):
    with pytest.raises(DataError, match=r"slices of 4 cases need about .* GB of memory .*no more than 5e-06 GB.*set cache_dir"):
        slices(study, max_memory_bytes=5000)
    with pytest.raises(DataError, match="set cache_gb higher"):
        slices(study, cache=CaseCache(tmp_path / "cache", max_bytes=12_000), max_memory_bytes=0)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="set cache_dir"):
        slices(study, cache=CaseCache(tmp_path / "file" / "cache"), max_memory_bytes=5000)


def test_too_little_memory_is_foreseen(tmp_path):
    cases = [{"image": picture(tmp_path / f"{number}.png"), "series": str(number)} for number in range(40)]
    with pytest.raises(DataError, match="the first 10 need"):
        slices(cases, max_memory_bytes=39 * 4 * SIDE * SIDE)
    assert len(slices(cases, max_memory_bytes=40 * 4 * SIDE * SIDE)) == 40


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_can_be_sent_to_a_worker(study, tmp_path, way):
    dataset = slices(study, **way(CaseCache(tmp_path / "cache")))
    before = dataset[3]
    again = pickle.loads(pickle.dumps(dataset))
    assert again._last is None and equal(again[3], before)


@pytest.mark.real
def test_busi(shared):
    found = find_cases(shared / "data/busi")
    dataset = slices(found.cases, 64)
    assert len(dataset) == 85 and not dataset.refused and sum(dataset[i]["label"] for i in range(85)) == 40
    for i in range(85):
        assert bool(dataset[i]["mask"].any()) == (dataset[i]["label"] == 1)
