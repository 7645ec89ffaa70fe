"""The bundles of RD4AD, ESC-DRKD, SCRD4AD and DRD as MONAI and a user run them; test_skipts.py has what does not depend on the system."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import monai.bundle
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from support.bundles import BUNDLES, SMALL, SYSTEMS, bundle_workflow, run_bundle
from support.runs import assert_same_end, losses, rows
from support.tiny import write_image_folder

from monai_anomaly.pack import pack_bundle
from monai_anomaly.training import DistillationTrainer, load_detector

NEW = [name for name in SYSTEMS if name != "skipts"]
TINY = {name: value for name, value in SMALL.items() if name != "epochs"} | {"blocks": [1, 1, 1]}
EPOCHS = 3
IN_THE_LOG = {
    "rd4ad": {"loss", "similarity"},
    "escdrkd": {"loss", "similarity", "projection", "pseudo_unchanged"},
    "scrd4ad": {"loss", "contrast", "pseudo_unchanged", "scale_weight_1", "scale_weight_2", "scale_weight_3"},
    "drd": {"loss", "similarity", "spatial", "reconstruction", "segmentation", "pseudo_unchanged"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_image_folder(tmp_path_factory.mktemp("images") / "set", n_train=14)


@pytest.fixture(scope="module", params=NEW)
def bundle(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def trained(bundle, folder, tmp_path_factory) -> Path:
    """Three epochs in one go."""
    out = tmp_path_factory.mktemp(bundle)
    train(bundle, folder, out)
    return out


def train(bundle: str, folder: Path, out: Path, **flags) -> None:
    run_bundle("train", bundle, dataset_dir=str(folder), output_dir=str(out), **{**TINY, "epochs": EPOCHS, **flags})


def test_training_leaves_model_record_curves_and_evaluation(bundle, trained):
    assert {path.name for path in trained.iterdir()} == {"model.pt", "checkpoint.pt", "run.json", "tensorboard", "evaluation"}
    record = json.loads((trained / "run.json").read_text())
    assert record["status"] == "completed" and record["settings"]["epochs"] == len(record["epochs"]) == EPOCHS
    assert all(set(epoch) == IN_THE_LOG[bundle] for epoch in record["epochs"])
    assert all(np.isfinite(value) for epoch in record["epochs"] for value in epoch.values())
    detector = load_detector(trained / "model.pt")
    assert type(detector.system).__name__.lower() == bundle and detector.provenance["settings"]["blocks"] == [1, 1, 1]
    metrics = json.loads((trained / "evaluation" / "metrics.json").read_text())
    assert metrics["metrics"]["image"]["n_abnormal"] == 4 and metrics["provenance"]["data_fingerprint"] == record["data"]["fingerprint"]


def test_scores_in_the_table_are_those_of_the_model_in_python(trained, folder):
    """Among them DRD's refined ones: one image at a time here, a batch there."""
    detector = load_detector(trained / "model.pt")
    told = [float(row["score"]) for row in rows(trained / "evaluation" / "images.csv") if row["group"] == "square"]
    for name, score in zip(sorted((folder / "test" / "square").iterdir()), told, strict=True):
        pixels = torch.from_numpy(np.array(Image.open(name), dtype=np.float32) / 255)
        image = (pixels - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        with torch.no_grad():
            assert detector.predict(image[None]).score.item() == pytest.approx(score, abs=1e-5)


def test_a_run_that_was_stopped_in_an_epoch_ends_as_if_it_had_not_been(bundle, trained, folder, tmp_path, monkeypatch):
    """Pseudo-anomalies and the noise on features are drawn again as they would have been, two learning rates and weight decay go on."""
    iteration = DistillationTrainer._iteration

    def stopped(self, engine, batch):
        output = iteration(self, engine, batch)
        if engine.state.epoch == 2 and engine.state.iteration % engine.state.epoch_length == 1:
            raise KeyboardInterrupt
        return output

    with monkeypatch.context() as patch:
        patch.setattr(DistillationTrainer, "_iteration", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(bundle, folder, tmp_path)
    torch.manual_seed(7)  # whatever is drawn in between
    torch.rand(7)
    train(bundle, folder, tmp_path)
    assert_same_end(tmp_path, trained)
    assert [stop["after_epoch"] for stop in json.loads((tmp_path / "run.json").read_text())["resumed"]] == [1]


def test_inference_writes_scores_and_heat_maps(bundle, trained, folder, tmp_path):
    run_bundle("inference", bundle, dataset_dir=str(folder), model=str(trained / "model.pt"), output_dir=str(tmp_path))
    assert len(list((tmp_path / "heatmaps").iterdir())) == 8
    for name in ("images.csv", "patients.csv"):
        scores = [[float(row["score"]) for row in rows(folder / name)] for folder in (tmp_path, trained / "evaluation")]
        assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_another_choice_of_maps_keeps_the_systems_own_rule(trained):
    detector, changed = load_detector(trained / "model.pt"), load_detector(trained / "model.pt", maps=[2, 3])
    assert changed.anomaly_map.config == detector.anomaly_map.config | {"maps": [2, 3]}


@pytest.mark.parametrize("name", ["train", "inference"])
def test_check_properties_finds_nothing_missing(bundle, trained, folder, tmp_path, name):
    flags = {**TINY, "epochs": 1} if name == "train" else {"model": str(trained / "model.pt")}
    flow = bundle_workflow(name, bundle, dataset_dir=str(folder), output_dir=str(tmp_path), **flags)
    flow.initialize()
    assert flow.check_properties() == []


def test_monais_tools_accept_metadata_and_network(bundle, trained, tmp_path):
    shutil.copy(Path(__file__).with_name("metadata_schema.json"), tmp_path / "schema.json")
    meta = str(BUNDLES / bundle / "metadata.json")
    monai.bundle.verify_metadata(meta_file=meta, filepath=str(tmp_path / "schema.json"))
    told = {"model": str(trained / "model.pt"), "bundle_root": str(BUNDLES / bundle)}
    monai.bundle.verify_net_in_out(
        net_id="network_def", config_file=str(BUNDLES / bundle / "inference.json"), meta_file=meta, device="cpu", n=2, **told
    )


def test_load_gives_the_trained_network(bundle, trained, tmp_path):
    pack_bundle(bundle, tmp_path / "mine.zip", trained / "model.pt")
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        assert not any(info.external_attr >> 16 & 0o170000 == 0o120000 for info in archive.infolist())
        archive.extractall(tmp_path)
    for name in ("train.json", "configs/evaluate.json", "LICENSE", "docs/README.md", "docs/shared.md"):
        assert (tmp_path / "mine" / name).read_bytes() == (BUNDLES / bundle / name).read_bytes()
    loaded = monai.bundle.load(
        "mine", bundle_dir=str(tmp_path), workflow_type="inference", device="cpu", args_file={"bundle_root": str(tmp_path / "mine")}
    )
    assert loaded.description == load_detector(trained / "model.pt").description


def part(name: str):
    """Of the config, as MONAI makes it."""
    return lambda flow: flow.parser.get_parsed_content(name)


CUT_PASTE = [
    ("patch_sizes", [[4, 6], [8, 9], [10, 20]], lambda flow: [list(size) for size in part("train#trainer")(flow).pseudo_anomaly.sizes]),
    ("patch_weights", [0.25, 0.5, 0.25], lambda flow: [float(weight) for weight in part("train#trainer")(flow).pseudo_anomaly.weights]),
    ("foreground", 0.25, lambda flow: part("train#trainer")(flow).pseudo_anomaly.foreground),
]
FLAGS = {
    "rd4ad": [("variant", "reference", lambda flow: part("loss")(flow).terms["similarity"].variant)],
    "escdrkd": [
        ("proj_levels", [1, 2, 3], lambda flow: list(part("network_def")(flow).system.proj_levels)),
        ("lr_projections", 0.25, lambda flow: part("optimizer")(flow).param_groups[0]["lr"]),
        *CUT_PASTE,
    ],
    "scrd4ad": [
        ("grey_noise", True, lambda flow: part("train#trainer")(flow).pseudo_anomaly.grey_noise),
        ("foreground", 0.25, lambda flow: part("train#trainer")(flow).pseudo_anomaly.foreground),
        ("iterations", 30, lambda flow: 3 * part("train#trainer")(flow).state.max_epochs),
        ("similarity", "pixel", lambda flow: part("loss")(flow).terms["contrast"].similarity),
        ("weight_floor", 0.125, lambda flow: part("network_def")(flow).system.scale_head.floor),
        ("scale_pooling", "average", lambda flow: part("network_def")(flow).system.scale_head.pooling),
        ("variant", "reference", lambda flow: part("loss")(flow).terms["contrast"].variant),
    ],
    "drd": [
        ("weight_decay", 0.25, lambda flow: part("optimizer")(flow).param_groups[0]["weight_decay"]),
        ("noise", 0.25, lambda flow: part("network_def")(flow).system.noise),
        ("seg_target", "mask", lambda flow: part("loss")(flow).terms["segmentation"].target),
        ("seg_weight", 0.25, lambda flow: part("loss")(flow).weights["segmentation"]),
        ("variant", "reference", lambda flow: part("network_def")(flow).system.variant),
        ("refine", False, lambda flow: part("network_def")(flow).anomaly_map.refine),
        *CUT_PASTE,
    ],
}
OF_ALL = [
    ("deconv_kernel", 3, lambda flow: part("network_def")(flow).system.student.deconv_kernel),
    ("blocks", [1, 1, 1], lambda flow: list(part("network_def")(flow).system.student.blocks)),
    ("epochs", 5, lambda flow: part("train#trainer")(flow).state.max_epochs),
    ("batch_size", 3, lambda flow: part("train#dataloader")(flow).batch_size),
    ("lr", 0.25, lambda flow: part("optimizer")(flow).param_groups[-1]["lr"]),
    ("maps", [2, 3], lambda flow: list(part("network_def")(flow).anomaly_map.maps)),
    ("sigma_px", 2.0, lambda flow: part("network_def")(flow).anomaly_map.sigma_px),
    ("fusion", "mean", lambda flow: part("network_def")(flow).anomaly_map.fusion),
    ("fusion", "sum", lambda flow: part("network_def")(flow).anomaly_map.fusion),
    ("pooling", "top_3", lambda flow: part("network_def")(flow).pooling.rule),
]


@pytest.mark.parametrize(("name", "flag", "value", "read"), [(name, *flag) for name in NEW for flag in [*FLAGS.get(name, []), *OF_ALL]])
def test_every_flag_reaches_what_it_names(folder, tmp_path, name, flag, value, read):
    flow = bundle_workflow("train", name, dataset_dir=str(folder), output_dir=str(tmp_path), **{**TINY, flag: value})
    flow.parser.parse()
    assert read(flow) == value


@pytest.mark.parametrize("name", NEW)
def test_no_flag_of_a_systems_document_is_left_out_here(name):
    lines = (BUNDLES / name / "docs" / "README.md").read_text().splitlines()
    words = {word.strip("`,").removeprefix("--") for line in lines if line.startswith("| `--") for word in line.split("|")[1].split()}
    assert words <= {flag for flag, *_ in [*FLAGS.get(name, []), *OF_ALL]}


def test_the_optimiser_of_escdrkd_has_two_groups_and_all_parameters(folder, tmp_path):
    flow = bundle_workflow("train", "escdrkd", dataset_dir=str(folder), output_dir=str(tmp_path), **TINY)
    flow.parser.parse()
    projections, decoder = part("optimizer")(flow).param_groups
    assert (projections["lr"], decoder["lr"]) == (0.001, 0.005) and projections["betas"] == decoder["betas"] == (0.5, 0.999)
    listed, trainable = [*projections["params"], *decoder["params"]], part("network_def")(flow).trainable_parameters()
    assert len(listed) == len(trainable) and all(a is b for a, b in zip(listed, trainable, strict=True))


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_step_of_the_optimiser_is_adams_formula_in_every_layout(folder, tmp_path, name):
    """Weights are channels-last or not, and the fused step must pair each with its own gradient and moments."""
    flow = bundle_workflow("train", name, dataset_dir=str(folder), output_dir=str(tmp_path), **TINY)
    flow.parser.parse()
    optimizer, generator = part("optimizer")(flow), torch.Generator().manual_seed(1)
    weights = [(p, group) for group in optimizer.param_groups for p in group["params"]]
    assert len({p.is_contiguous() for p, _ in weights}) == 2
    for p, _ in weights:
        p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=generator))
    before = [(p.detach().double().numpy().copy(), p.grad.double().numpy().copy()) for p, _ in weights]
    optimizer.step()
    for (p, group), (value, gradient) in zip(weights, before, strict=True):
        gradient += group["weight_decay"] * value
        expected = value - group["lr"] * gradient / (np.abs(gradient) + group["eps"])  # the first step: both moments are the gradient's
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_iterations_become_whole_epochs_before_anything_is_read(folder, tmp_path, caplog, capsys):
    """11 slices are 3 batches; 4 iterations are 2 epochs, and so are 6; 7 are one more."""
    run = lambda n: run_bundle("train", "scrd4ad", dataset_dir=str(folder), output_dir=str(tmp_path), iterations=n, **TINY)  # noqa: E731
    with caplog.at_level("INFO"):
        run(4)
        assert len(losses(tmp_path)) == 2 and "4 iterations are 2 epochs of 3 batches" in caplog.text
        capsys.readouterr()
        run(6)
        assert "already complete" in caplog.text and "reading" not in capsys.readouterr().err
        run(7)
    assert len(losses(tmp_path)) == 3 and "Going on after epoch 2 of 3." in caplog.text


@pytest.mark.parametrize("kind", ["PerlinPatch", "CutPaste", "RectangleCutPaste", "ScarCutPaste", "SimplexPatch", "GaussianPatch"])
def test_the_documents_own_example_puts_another_pseudo_anomaly_in(kind, folder, tmp_path):
    text = (BUNDLES / "common" / "README.md").read_text()
    example = text[text.index("```json") + 7 :].split("```")[0]
    assert "PerlinPatch" in example and kind in text
    (tmp_path / "other.json").write_text(example.replace("PerlinPatch", kind))
    configs = [str(BUNDLES / "drd" / "train.json"), str(tmp_path / "other.json")]
    parser = ConfigParser(ConfigParser.load_config_files(configs))
    parser.update({"dataset_dir": str(folder), **TINY})
    drawn = parser.get_parsed_content("train#trainer#pseudo_anomaly")
    assert type(drawn).__name__ == kind and drawn.foreground == 0.05
    assert parser.get_parsed_content("settings")["pseudo_anomaly"] == f"{kind} on tissue"
