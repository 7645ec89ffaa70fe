"""Promise 4, the paper is visible: an equation stands in one place with its number, and where the released code differs, both can be had by name."""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path

import pytest
import torch
from support.bundles import BUNDLES, SYSTEMS

from monai_anomaly import losses, networks, scoring
from monai_anomaly.errors import OptionError
from monai_anomaly.losses import ConsistencyLoss, SimilarityLoss
from monai_anomaly.networks import Features, Teacher
from monai_anomaly.transforms import pseudo

PACKAGE = Path(losses.__file__).parents[1]
WITH_VARIANT = {
    name: part
    for module in (losses, networks, scoring, pseudo)
    for name, part in vars(module).items()
    if inspect.isclass(part) and "variant" in inspect.signature(part).parameters
}


def test_each_numbered_equation_of_skip_ts_stands_in_one_place():
    """All eight; equation 6 defines the up-sampling that equation 7 sums."""
    found: dict[int, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                for numbers in re.findall(r"\beq\. (\(\d\)(?: and \(\d\))?)", (ast.get_docstring(node) or "").partition("Args:")[0]):
                    for number in re.findall(r"\d", numbers):
                        found.setdefault(int(number), []).append(node.name)
    assert found == {
        1: ["level_map"],
        2: ["SimilarityLoss"],
        3: ["SimilarityLoss"],
        4: ["ConsistencyLoss"],
        5: ["WeightedSum"],
        6: ["upsample_blur_matrix"],
        7: ["AnomalyMap"],
        8: ["Pooling"],
    }


def test_the_published_mathematics_is_the_default():
    assert {"SimilarityLoss", "ConsistencyLoss", "ContrastiveLoss", "DRD"} == {*WITH_VARIANT}
    for name, part in WITH_VARIANT.items():
        assert inspect.signature(part).parameters["variant"].default == "paper", name
        text = inspect.getdoc(part)
        assert "paper" in text and "reference" in text and "released code" in text, name
    for bundle in SYSTEMS:
        assert json.loads((BUNDLES / bundle / "train.json").read_text()).get("variant", "paper") == "paper", bundle


@pytest.mark.parametrize("name", sorted(WITH_VARIANT))
def test_there_is_no_third_way(name):
    first = (Teacher("resnet18", weights=None, stages=3),) if name == "DRD" else ()
    with pytest.raises(OptionError, match="paper"):
        WITH_VARIANT[name](*first, variant="mine")


@pytest.mark.parametrize("make", [SimilarityLoss, ConsistencyLoss])
def test_the_two_are_different_numbers(make):
    draw = torch.Generator().manual_seed(0)
    teacher, student = ([torch.rand(2, 4 * 2**k, 16 // 2**k, 16 // 2**k, generator=draw) for k in range(3)] for _ in range(2))
    features = Features(teacher=tuple(teacher), student=tuple(student))
    paper, reference = make(variant="paper")(features), make(variant="reference")(features)
    assert paper.isfinite() and reference.isfinite() and not torch.isclose(paper, reference)


@pytest.mark.parametrize("bundle", [name for name in SYSTEMS if "variant" in json.loads((BUNDLES / name / "train.json").read_text())])
def test_the_difference_is_written_down(bundle):
    text = (BUNDLES / bundle / "docs" / "README.md").read_text(encoding="utf-8")
    assert "| `--variant` | `paper` | `reference`" in text and "released code" in text
