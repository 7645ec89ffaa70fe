from __future__ import annotations

import pytest

from monai_anomaly.__main__ import main


def test_cost_prints_the_papers_table_with_its_convention(capsys):
    assert main(["cost", "--system", "SkipTS", "--backbone", "wide_resnet50_2"]) == 0
    out = capsys.readouterr().out
    assert "26,024,607,744" in out and "91,751,744" in out and "24,917,504" in out and "1 MAC = " in out


def test_cost_of_another_system_teacher_and_size(capsys):
    assert main(["cost", "--system", "TraditionalKD", "--backbone", "resnet18", "--image_size", "64"]) == 0
    assert "TraditionalKD with resnet18" in capsys.readouterr().out


def test_cost_adds_up_parts_that_are_lists_and_names_the_systems(capsys):
    assert main(["cost", "--system", "ESCDRKD"]) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.count(",") > 2}
    assert rows["projections"][2] == "10,871,635,968" and rows["total"][2] == "36,896,243,712"
    with pytest.raises(SystemExit):
        main(["cost", "--help"])
    out = capsys.readouterr().out
    assert all(system in out for system in ("SkipTS", "RD4AD", "ESCDRKD", "SCRD4AD", "DRD", "TraditionalKD"))


@pytest.mark.parametrize("wrong", [["--system", "RD5"], ["--backbone", "vgg16"], ["--image_size", "100"]])
def test_a_wrong_option_is_one_sentence_and_status_2(capsys, wrong):
    assert main(["cost", *wrong]) == 2
    captured = capsys.readouterr()
    assert "expected" in captured.err and not captured.out


def test_which_model_is_exported_has_to_be_said(capsys):
    with pytest.raises(SystemExit):
        main(["export", "--format", "onnx", "--out", "detector.onnx"])
    assert "the following arguments are required: --model" in capsys.readouterr().err


def test_study_is_written_where_asked(capsys, tmp_path, monkeypatch):
    from monai_anomaly.data.study import folder

    monkeypatch.setattr(folder, "PATIENTS", {("training", "good"): 1, ("testing", "good"): 1})
    assert main(["study", str(tmp_path / "study"), "--seed", "3"]) == 0
    assert (tmp_path / "study" / "datalist.json").is_file() and str(tmp_path / "study") in capsys.readouterr().out


def test_help_names_every_verb(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert {"cost", "study", "index", "export", "bundle", "pack", "doctor", "compare"} <= set(capsys.readouterr().out.split())
