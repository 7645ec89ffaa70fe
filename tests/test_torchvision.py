"""The import of torchvision, in processes of its own: what this process has imported already must not help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.repository import ROOT

GOOD_TORCHVISION = '"""A build that works."""\n__version__ = "good"\n'
BAD_TORCHVISION = 'print("tried")\nraise RuntimeError("Detected that torch and torchvision were compiled with different CUDA versions")\n'
MISFIT_TORCHVISION = """import torch
if not hasattr(torch.ops.torchvision, "nms"):
    raise RuntimeError("operator torchvision::nms does not exist")
__version__ = "misfit"
"""
REPORT = "from monai_anomaly import _torchvision as shim; print(shim.torchvision.__version__, shim.stands_in)"


def run(code: str, *paths: Path, warnings: str = "default") -> subprocess.CompletedProcess[str]:
    """Run a few lines in a fresh interpreter that finds ``paths`` first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(path) for path in (*paths, ROOT))}
    return subprocess.run([sys.executable, "-W", warnings, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_models_and_weight_enums_work_on_this_build_without_a_warning():
    done = run(
        "from monai_anomaly._torchvision import torchvision\n"
        "import importlib, torch, monai_anomaly._torchvision as shim\n"
        "again = importlib.reload(shim).torchvision\n"
        "assert again is torchvision\n"
        "for name in ('resnet18', 'wide_resnet50_2'):\n"
        "    model = torchvision.models.get_model(name, weights=None).eval()\n"
        "    weights = torchvision.models.get_model_weights(name)['IMAGENET1K_V1']\n"
        "    assert weights.url.startswith('https://') and weights.transforms().mean == [0.485, 0.456, 0.406]\n"
        "with torch.inference_mode():\n"
        "    assert torchvision.models.resnet18().eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)\n",
        warnings="error",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_failed_import_by_somebody_else_before_does_not_matter():
    done = run("try:\n    import torchvision\nexcept RuntimeError:\n    pass\n" + REPORT)
    assert done.returncode == 0, done.stderr


def test_a_working_build_is_left_alone(tmp_path: Path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(GOOD_TORCHVISION)
    for before in ("", "import torchvision; "):
        assert run(before + REPORT, tmp_path).stdout.split() == ["good", "False"]


def test_what_a_build_for_another_torch_lacks_is_stood_in_for(tmp_path: Path):
    (tmp_path / "torchvision.py").write_text(MISFIT_TORCHVISION)
    assert run(REPORT, tmp_path).stdout.split() == ["misfit", "True"]


def test_another_failure_is_not_covered_up(tmp_path: Path):
    (tmp_path / "torchvision.py").write_text(BAD_TORCHVISION)
    done = run(REPORT, tmp_path)
    assert (done.returncode, done.stdout) == (1, "tried\n")
    assert "different CUDA versions" in done.stderr.splitlines()[-1]


def test_without_torchvision_the_error_says_what_to_install():
    done = run("import sys; sys.modules['torchvision'] = None; " + REPORT)
    assert done.returncode == 1
    assert "AnomalyError: torchvision" in done.stderr
    assert "pip install -c constraints.txt torchvision" in done.stderr


def test_nothing_else_in_the_package_imports_torchvision():
    files = [path for path in (ROOT / "monai_anomaly").rglob("*.py") if path.name != "_torchvision.py"]
    assert files
    direct = ("import torchvision\n", "from torchvision", "import torchvision.")
    assert not [path for path in files if any(line.lstrip().startswith(direct) for line in path.open(encoding="utf-8"))]
