from __future__ import annotations

import itertools
import re
import shlex

import pytest
from support.bundles import BUNDLE

from monai_anomaly.compare import parse_flags, parse_spec
from monai_anomaly.compare.specs import check_flags
from monai_anomaly.errors import OptionError
from monai_anomaly.pack import bundle_names


def test_a_bundle_alone_is_trained_as_it_is():
    spec = parse_spec("skipts")
    assert (spec.bundle, spec.overlays, dict(spec.flags), spec.scoring, str(spec)) == ("skipts", (), {}, {}, "skipts")
    assert spec.trained == spec and spec.configs == [BUNDLE / "train.json"]


def test_flags_of_scoring_are_parted_from_those_of_training():
    spec = parse_spec("skipts:maps=[2,3],beta=0,pooling=top_20%")
    assert spec.scoring == {"maps": [2, 3], "pooling": "top_20%"}
    assert spec.trained == parse_spec("skipts:beta=0")


def test_an_overlay_is_laid_over_the_training():
    assert parse_spec("skipts+traditional_kd:lr=1e-3").configs == [BUNDLE / "train.json", BUNDLE / "traditional_kd.json"]


@pytest.mark.parametrize(
    "text",
    [
        "skipts",
        "skipts:beta=0",
        "skipts:maps=[2,3],pooling=top_20%",
        "skipts+traditional_kd:amp=true,ct_window=[0,80]",
        "skipts:blocks=null",
    ],
)
def test_a_system_is_written_as_it_is_read(text):
    assert str(parse_spec(text)) == text and parse_spec(str(parse_spec(text))) == parse_spec(text)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("x=true", True),
        ("x=False", False),
        ("x=null", None),
        ("x=None", None),
        ("x=1e-3", 0.001),
        ("x=16", 16),
        ("x=[1,2]", [1, 2]),
        ("x=['brain','bone']", ["brain", "bone"]),
        ("x=top_20%", "top_20%"),
        ("x=weights/a=b.pth", "weights/a=b.pth"),
        ('x=$torch.device("cpu")', '$torch.device("cpu")'),
    ],
)
def test_a_value_is_json_or_python_or_text(word, value):
    assert parse_flags([word]) == {"x": value} and type(parse_flags([word])["x"]) is type(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("skpts", "did you mean skipts"),
        ("", "expected one of"),
        ("skipts:meazure=mse", "did you mean measure"),
        ("skipts:bundle_root=/", "does not have"),
        ("skipts:optimizer=1", "does not have"),
        ("skipts:epochs=3", "--epochs"),
        ("scrd4ad:iterations=3", "--epochs"),
        ("skipts:seed=3", "--seeds"),
        ("skipts:output_dir=x", "--out"),
        ("skipts+traditional", "did you mean traditional_kd"),
        ("skipts+evaluate", "expected one of traditional_kd"),
        ("skipts+multi_gpu_train", "expected one of traditional_kd"),
        ("skipts+traditional_kd:skips=0", "traditional_kd.json of bundles/skipts fixes"),
        ("skipts:beta", "NAME=VALUE"),
        ("skipts:=3", "NAME=VALUE"),
        ("skipts:beta=0,beta=1", "twice"),
    ],
)
def test_what_is_not_known_is_refused_with_what_comes_near(text, told):
    with pytest.raises(OptionError, match=re.escape(told)):
        parse_spec(text)


def test_shared_flags_have_to_be_known_to_every_system():
    check_flags(parse_spec("skipts"), ["beta", "device", "num_workers"], "--set")
    with pytest.raises(OptionError, match="--set sets 'projections'"):
        check_flags(parse_spec("skipts"), ["projections"], "--set")


def test_every_bundle_can_be_named():
    assert "skipts" in bundle_names() and "common" not in bundle_names()
    assert [str(parse_spec(name)) for name in bundle_names()] == bundle_names()


def test_the_documented_ablations_can_be_run():
    text = (BUNDLE / "docs" / "README.md").read_text().split("## Ablations")[1].split("\n## ")[0].replace("\\\n", "")
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("python -m ")]
    (compare,) = (line for line in lines if line[2] == "monai_anomaly")
    specs = [parse_spec(word) for word in compare[compare.index("--systems") + 1 :]]
    overrides = [{**spec.flags, **({"overlay": spec.overlays} if spec.overlays else {})} for spec in specs]
    by_line = []
    for line in lines:
        if line[2] == "monai.bundle":
            flags = {word[2:]: value for word, value in itertools.pairwise(line) if word.startswith("--")}
            kept = {name: value for name, value in flags.items() if name not in ("config_file", "dataset_dir", "output_dir", "model")}
            overlay = {"overlay": ("traditional_kd",)} if "traditional_kd.json" in flags["config_file"] else {}
            by_line.append({**parse_flags(f"{name}={value}" for name, value in kept.items()), **overlay})
    assert len(overrides) == 9 and sorted(map(str, overrides)) == sorted(map(str, by_line))
