"""The Skip-TS bundle as MONAI and a user run it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image
from support import bundles
from support.bundles import BUNDLE, bundle_workflow
from support.repository import ROOT
from support.runs import rows
from support.tiny import write_image_folder

from monai_anomaly.data import find_cases, read_datalist
from monai_anomaly.data.study import folder as study_folder
from monai_anomaly.errors import CalibrationError, CheckpointError, DataError, OptionError, WeightsError
from monai_anomaly.training import RefreshBatchNorm, load_detector

SMALL = {**bundles.SMALL, "epochs": 2}


def run(name: str, **flags) -> ConfigWorkflow:
    flow = bundle_workflow(name, **flags)
    flow.initialize()
    flow.run()
    flow.finalize()
    return flow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_image_folder(tmp_path_factory.mktemp("images") / "set")


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    out, searched = tmp_path_factory.mktemp("trained"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monai_anomaly.data.find_cases", lambda place: searched.append(place) or find_cases(place))
        run("train", dataset_dir=str(folder), output_dir=str(out), **SMALL)
    assert searched == [str(folder)]  # once: with thousands of series in it a folder takes minutes
    return out


def cause(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    """MONAI wraps what a config's parts raise."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def test_training_leaves_model_record_curves_and_evaluation(trained, folder):
    record = json.loads((trained / "run.json").read_text())
    assert (
        record["status"] == "completed" and len(record["epochs"]) == 2 and set(record["epochs"][0]) == {"loss", "similarity", "consistency"}
    )
    assert record["settings"]["epochs"] == 2 and record["teacher"]["untrained"] and len(record["teacher"]["sha256"]) == 64
    assert record["data"]["train"]["slices"] == 10 and record["data"]["calibration"]["slices"] == 2
    assert record["data"]["files_found"] == 20 and record["data"]["refused"] == [] and record["versions"]["torch"] == torch.__version__
    assert any(path.name.startswith("events") for path in (trained / "tensorboard").iterdir())
    assert record["settings"]["dataset_dir"] == str(folder)
    assert load_detector(trained / "model.pt").provenance["settings"]["dataset_dir"] == folder.name  # a model tells no paths
    metrics = json.loads((trained / "evaluation" / "metrics.json").read_text())
    assert set(metrics["metrics"]) == {"image", "pixel"} and metrics["provenance"]["data_fingerprint"] == record["data"]["fingerprint"]
    assert metrics["metrics"]["image"]["false_alarm_rate"] == pytest.approx(1 / 3)
    table = rows(trained / "evaluation" / "images.csv")
    assert len(table) == 8 and all(0 < float(row["p_value"]) <= 1 and row["flagged"] in "01" for row in table)
    assert len(rows(trained / "evaluation" / "patients.csv")) == 8
    with Image.open(trained / "evaluation" / "contact_sheet.png") as picture:
        assert min(picture.size) > 400


def test_scores_in_the_table_are_those_of_the_model_in_python(trained, folder):
    detector = load_detector(trained / "model.pt")
    table = rows(trained / "evaluation" / "images.csv")
    row = next(row for row in table if row["group"] == "square")
    name = sorted((folder / "test" / "square").iterdir())[0]
    pixels = torch.from_numpy(np.array(Image.open(name), dtype=np.float32) / 255)
    image = (pixels - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        assert detector.predict(image[None]).score.item() == pytest.approx(float(row["score"]), abs=1e-5)


def test_inference_writes_scores_and_one_picture_per_image(trained, folder, tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    for k, path in enumerate(sorted((folder / "test" / "square").iterdir())[:2]):
        (new / f"scan {k}.png").write_bytes(path.read_bytes())
    (new / "broken.png").write_bytes((new / "scan 0.png").read_bytes()[:200])
    run("inference", dataset_dir=str(new), model=str(trained / "model.pt"), output_dir=str(tmp_path / "out"))
    table = rows(tmp_path / "out" / "images.csv")
    assert len(table) == 2 and all(row["label"] == "" and row["p_value"] for row in table)
    assert len(list((tmp_path / "out" / "heatmaps").glob("*.png"))) == 2
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert len(found["refused"]) == 1 and "broken.png" in str(found["refused"]) and found["counts"]["files_found"] == 3
    (refused,) = rows(tmp_path / "out" / "refused.csv")
    assert "broken.png" in refused["where"] and refused["reason"] and refused["files"] == "1"


@pytest.mark.parametrize(
    ("flag", "value", "read"),
    [
        ("backbone", "resnet34", lambda flow: flow.parser.get_parsed_content("network_def").system.teacher.name),
        ("image_size", 32, lambda flow: flow.parser.get_parsed_content("train#dataset")[0]["image"].shape[-1]),
        ("preset", "image", lambda flow: flow.parser.get_parsed_content("train#preprocessing").transforms[2].preset),
        ("plane", "coronal", lambda flow: flow.parser.get_parsed_content("train#preprocessing").transforms[1].plane),
        ("plane", "axial", lambda flow: flow.parser.get_parsed_content("network_def").preprocessing["plane"]),
        ("neighbours", 1, lambda flow: flow.parser.get_parsed_content("validate#dataset").neighbours),
        ("ct_window", "bone", lambda flow: flow.parser.get_parsed_content("network_def").preprocessing["ct_window"]),
        ("skips", 1, lambda flow: flow.parser.get_parsed_content("network_def").system.skips),
        ("deconv_kernel", 3, lambda flow: flow.parser.get_parsed_content("network_def").system.student.deconv_kernel),
        ("blocks", [1, 1, 1], lambda flow: list(flow.parser.get_parsed_content("network_def").system.student.blocks)),
        ("epochs", 5, lambda flow: flow.parser.get_parsed_content("train#trainer").state.max_epochs),
        ("batch_size", 3, lambda flow: flow.parser.get_parsed_content("train#dataloader").batch_size),
        ("amp", True, lambda flow: flow.parser.get_parsed_content("train#trainer").bfloat16),
        ("fusion", "mean", lambda flow: flow.parser.get_parsed_content("network_def").anomaly_map.fusion),
        ("lr", 0.5, lambda flow: flow.parser.get_parsed_content("optimizer").param_groups[0]["lr"]),
        ("seed", 9, lambda flow: flow.parser.get_parsed_content("network_def").system.teacher.seed),
        ("checkpoint_interval", 7, lambda flow: flow.parser.get_parsed_content("checkpoint").interval),
        ("num_workers", 1, lambda flow: flow.parser.get_parsed_content("train#dataloader").num_workers),
        (
            "refresh_batch_norm",
            False,
            lambda flow: any(isinstance(h, RefreshBatchNorm) for h in flow.parser.get_parsed_content("train#handlers")),
        ),
        (
            "refresh_batch_norm",
            True,
            lambda flow: any(isinstance(h, RefreshBatchNorm) for h in flow.parser.get_parsed_content("train#handlers")),
        ),
        ("variant", "reference", lambda flow: flow.parser.get_parsed_content("loss").terms["consistency"].variant),
        ("measure", "mse", lambda flow: flow.parser.get_parsed_content("loss").terms["similarity"].measure),
        ("alpha", 2.0, lambda flow: flow.parser.get_parsed_content("loss").weights["similarity"]),
        ("beta", 0.5, lambda flow: flow.parser.get_parsed_content("loss").weights["consistency"]),
        ("maps", [2, 3], lambda flow: list(flow.parser.get_parsed_content("network_def").anomaly_map.maps)),
        ("sigma_px", 2.0, lambda flow: flow.parser.get_parsed_content("network_def").anomaly_map.sigma_px),
        ("pooling", "mean", lambda flow: flow.parser.get_parsed_content("network_def").pooling.rule),
        ("calibration_fraction", 0.5, lambda flow: len(flow.parser.get_parsed_content("split")[1]) / 12),
        ("teacher_weights", "none.pth", None),
        ("device", "$torch.device('meta')", lambda flow: f"$torch.device('{flow.parser.get_parsed_content('device')}')"),
    ],
)
def test_every_flag_reaches_what_it_names(folder, tmp_path, flag, value, read):
    flow = bundle_workflow("train", dataset_dir=str(folder), output_dir=str(tmp_path), **{**SMALL, flag: value})
    flow.parser.parse()
    if read is None:
        with pytest.raises(Exception) as caught:
            flow.parser.get_parsed_content("network_def")
        assert "none.pth" in str(cause(caught.value, WeightsError))
    else:
        assert read(flow) == value


def test_a_second_run_takes_its_images_from_the_cache(folder, tmp_path):
    flags = {**SMALL, "epochs": 1, "cache_dir": str(tmp_path / "cache"), "cache_gb": 0.1, "neighbours": 1}
    records, models = [], []
    for number, more in enumerate(({}, {}, {"image_size": 32})):
        flow = run("train", dataset_dir=str(folder), output_dir=str(tmp_path / str(number)), **{**flags, **more})
        records.append(json.loads((tmp_path / str(number) / "run.json").read_text())["data"])
        models.append(torch.load(tmp_path / str(number) / "model.pt", weights_only=True))
    counts = [[record[part]["cases_from_cache"] for part in ("train", "calibration")] for record in records]
    assert counts == [[0, 0], [10, 2], [0, 0]] and records[0]["train"]["intensity"] == {"image storage range 0 to 255": 10}
    weights = [key for key in models[0] if key != "_extra_state"]
    assert all(torch.equal(models[0][key], models[1][key]) for key in weights)
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2 * 20  # the evaluations' too
    assert flow.parser.get_parsed_content("cache").max_bytes == 10**8
    assert load_detector(tmp_path / "0" / "model.pt").preprocessing["neighbours"] == 1


def test_lesions_of_training_patients_are_left_out_slice_by_slice(folder, tmp_path):
    mask = lambda name, group: str(folder / "ground_truth" / group / f"{name}_mask.png")  # noqa: E731
    normal = [{"image": str(path)} for path in sorted((folder / "train" / "good").iterdir())]
    marked = [{"image": str(path), "mask": mask(path.stem, "square")} for path in sorted((folder / "test" / "square").iterdir())]
    (tmp_path / "datalist.json").write_text(json.dumps({"training": [*normal, *marked], "testing": [{"image": normal[0]["image"]}]}))
    run(
        "train",
        dataset_dir=str(tmp_path / "datalist.json"),
        output_dir=str(tmp_path / "out"),
        **{**SMALL, "calibration_fraction": 0, "epochs": 1},
    )
    record = json.loads((tmp_path / "out" / "run.json").read_text())["data"]["train"]
    assert (record["cases"], record["slices"], record["marked_slices_left_out"]) == (16, 12, 4)


def test_without_calibration_there_is_no_threshold_and_the_log_says_so(folder, tmp_path, caplog):
    with caplog.at_level("INFO"):
        run("train", dataset_dir=str(folder), output_dir=str(tmp_path), calibration_fraction=0, **SMALL)
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["metrics"]
    assert "threshold" not in metrics["image"] and "no threshold" in caplog.text
    assert json.loads((tmp_path / "run.json").read_text())["data"]["train"]["slices"] == 12


@pytest.mark.parametrize("flags", [{"false_alarm_rate": 0.01}, {"false_alarm_rate": 0.4, "pooling": "mean"}])
def test_a_rate_that_cannot_be_promised_is_refused(folder, trained, tmp_path, flags):
    with pytest.raises(Exception) as caught:
        run("evaluate", dataset_dir=str(folder), model=str(trained / "model.pt"), output_dir=str(tmp_path), **flags)
    assert cause(caught.value, CalibrationError)


def test_a_rate_that_cannot_be_promised_is_refused_before_the_training(folder, tmp_path):
    with pytest.raises(Exception) as caught:
        run("train", dataset_dir=str(folder), output_dir=str(tmp_path), false_alarm_rate=0.01, **SMALL)
    assert "2 normal calibration scores" in str(cause(caught.value, CalibrationError)) and not list(tmp_path.iterdir())


def test_an_image_size_that_does_not_halve_is_refused(folder, tmp_path):
    with pytest.raises(Exception) as caught:
        run("train", dataset_dir=str(folder), output_dir=str(tmp_path), **{**SMALL, "image_size": 100})
    assert "multiple of 32" in str(cause(caught.value, OptionError))


def test_another_map_rule_at_evaluation(folder, trained, tmp_path):
    run("evaluate", dataset_dir=str(folder), model=str(trained / "model.pt"), output_dir=str(tmp_path), maps=[2, 3], pooling="top_20%")
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["rule"]["maps"] == [2, 3] and found["rule"]["pooling"] == "top_20%" and "threshold" not in found["metrics"]["image"]


def test_own_data_without_weights_is_an_error_with_three_ways_out(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(Exception) as caught:
        run("train", dataset_dir=str(folder), output_dir=str(tmp_path / "out"), **{**SMALL, "teacher_weights": "IMAGENET1K_V1"})
    assert cause(caught.value, WeightsError) and not (tmp_path / "out" / "model.pt").exists()


@pytest.mark.parametrize("name", ["train", "evaluate", "inference"])
def test_a_wrong_folder_ends_in_a_sentence(tmp_path, name):
    flags = SMALL if name == "train" else {"model": str(tmp_path / "model.pt")}
    with pytest.raises(Exception) as caught:
        run(name, dataset_dir=str(tmp_path / "absent"), output_dir=str(tmp_path), **flags)
    assert "absent" in str(cause(caught.value, DataError))


def test_a_model_that_is_not_there_ends_in_a_sentence(folder, tmp_path):
    with pytest.raises(Exception) as caught:
        run("inference", dataset_dir=str(folder), model=str(tmp_path / "model.pt"), output_dir=str(tmp_path))
    assert "train first" in str(cause(caught.value, CheckpointError))


@pytest.mark.real
@pytest.mark.slow
def test_real_images_with_the_real_teacher_from_training_to_heat_maps(shared, tmp_path):
    weights = str(shared / "weights" / "resnet18_imagenet_stages1to3.pth")
    data = str(shared / "data" / "busi")
    run(
        "train", dataset_dir=data, output_dir=str(tmp_path / "out"), **{**SMALL, "teacher_weights": weights, "epochs": 4, "image_size": 128}
    )
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert not record["teacher"]["untrained"] and record["data"]["train"]["slices"] + record["data"]["calibration"]["slices"] == 30
    metrics = json.loads((tmp_path / "out" / "evaluation" / "metrics.json").read_text())["metrics"]
    assert metrics["image"]["n_normal"] == 15 and metrics["image"]["n_abnormal"] == 40
    assert metrics["image"]["auroc"] > 0.55 and metrics["pixel"]["auroc"] > 0.5
    run(
        "inference",
        dataset_dir=str(shared / "data" / "busi" / "test" / "benign"),
        model=str(tmp_path / "out" / "model.pt"),
        output_dir=str(tmp_path / "new"),
    )
    assert len(list((tmp_path / "new" / "heatmaps").iterdir())) == 20


@pytest.mark.real
def test_identical_images_across_the_split_are_in_the_record(shared, tmp_path):
    flow = bundle_workflow(
        "train", dataset_dir=str(shared / "data" / "brain_mri"), output_dir=str(tmp_path), **{**SMALL, "image_size": 32, "epochs": 1}
    )
    flow.parser.parse()
    assert len(flow.parser.get_parsed_content("duplicates")) >= 3


@pytest.mark.slow
def test_on_the_command_line_an_error_is_one_sentence_and_not_a_traceback(tmp_path):
    command = [
        sys.executable,
        "-m",
        "monai.bundle",
        "run",
        "--config_file",
        str(BUNDLE / "train.json"),
        "--dataset_dir",
        str(tmp_path / "absent"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "There is no folder or datalist" in done.stdout and "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_dicom_series_from_training_to_a_volume_on_its_grid(tmp_path, monkeypatch):
    monkeypatch.setattr(
        study_folder, "PATIENTS", {("training", "good"): 4, ("testing", "good"): 2, ("testing", "bleed"): 1, ("testing", "mass"): 1}
    )
    study = study_folder.write_study(tmp_path / "study", progress=False)
    test = read_datalist(study / "datalist.json").select(split="test", label=1)
    run("train", dataset_dir=str(study), output_dir=str(tmp_path / "out"), **{**SMALL, "calibration_fraction": 0.5})
    metrics = json.loads((tmp_path / "out" / "evaluation" / "metrics.json").read_text())["metrics"]
    assert set(metrics) == {"image", "patient", "pixel"} and metrics["patient"]["n_abnormal"] == 2
    run("inference", dataset_dir=str(study), model=str(tmp_path / "out" / "model.pt"), output_dir=str(tmp_path / "new"))
    volumes = sorted((tmp_path / "new" / "volumes").glob("*.nii.gz"))
    assert len(volumes) == 4
    mask = nib.load(test[-1]["mask"])
    volume = nib.load(next(path for path in volumes if path.name.startswith(test[-1]["series"])))
    assert volume.shape == mask.shape
    np.testing.assert_allclose(volume.affine, mask.affine, atol=1e-3)


@pytest.mark.slow
def test_the_literal_line_works_from_the_root_and_beats_the_baseline(tmp_path, request):
    """Word for word, without an argument, without weights at hand: the built-in study, the CPU profile where there is no GPU."""
    output, aside = BUNDLE / "models", tmp_path / "models"
    if output.exists():  # somebody's own model
        shutil.move(output, aside)
        request.addfinalizer(lambda: shutil.move(aside, output))
    request.addfinalizer(lambda: shutil.rmtree(output, ignore_errors=True))  # last added, first done
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", "--config_file", "bundles/skipts/train.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    record = json.loads((output / "run.json").read_text())
    assert record["status"] == "completed" and "profile" in done.stdout
    assert ("UNTRAINED" in done.stdout) == record["teacher"]["untrained"]
    image = json.loads((output / "evaluation" / "metrics.json").read_text())["metrics"]["image"]
    assert f"{image['auroc']:.4f}" in done.stdout and f"{image['baseline_mean_intensity_auroc']:.4f}" in done.stdout
    assert image["auroc"] > image["baseline_mean_intensity_auroc"] + 0.1


@pytest.mark.slow
def test_a_mistyped_flag_is_refused(tmp_path):
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(BUNDLE / "train.json"), "--epochz", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "did you mean --epochs?" in done.stdout


def test_a_run_that_fails_says_so_in_its_record(folder, tmp_path, monkeypatch):
    def fail(self, engine):
        raise DataError("the disk is full")

    monkeypatch.setattr("monai_anomaly.training.SaveDetector.__call__", fail)
    with pytest.raises(Exception, match=r".*"):
        run("train", dataset_dir=str(folder), output_dir=str(tmp_path), **SMALL)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "ended by DataError"


@pytest.mark.slow
def test_it_runs_from_another_folder(folder, trained, tmp_path):
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(BUNDLE / "evaluate.json")]
    flags = ["--dataset_dir", str(folder), "--model", str(trained / "model.pt"), "--output_dir", "here"]
    done = subprocess.run([*command, *flags], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "here" / "metrics.json").is_file() and [path.name for path in tmp_path.iterdir()] == ["here"]
