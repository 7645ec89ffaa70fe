"""What is built can be installed and used where there is no checkout; what belongs to the repository alone stays there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from support.bundles import SMALL
from support.repository import ROOT, source_files
from support.tiny import write_image_folder

import monai_anomaly

WORDS = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> dict[str, Path]:
    """The sdist, and the wheel built from it, by suffix; building writes beside the sources, so they are copied first."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in source_files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    # --no-isolation: the environment has setuptools, and a test downloads nothing.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return {path.suffix: path for path in out.iterdir()}


@pytest.fixture(scope="module")
def contents(archives) -> dict[str, dict[str, bytes]]:
    """Content of both archives, by suffix and name; nothing in them is a link."""
    with tarfile.open(archives[".gz"]) as sdist:
        members = sdist.getmembers()
        assert all(member.isfile() or member.isdir() for member in members)
        files = {member.name.partition("/")[2]: sdist.extractfile(member).read() for member in members if member.isfile()}
    with zipfile.ZipFile(archives[".whl"]) as wheel:
        return {".gz": files, ".whl": {name: wheel.read(name) for name in wheel.namelist()}}


@pytest.mark.parametrize("suffix", [".gz", ".whl"])
def test_every_bundle_is_whole_in_it(contents, suffix):
    tracked = [name for name in source_files() if name.startswith("bundles/")]
    assert len(tracked) > 80
    for name in tracked:
        if name != "bundles/common/README.md":  # which each bundle has as docs/shared.md
            assert contents[suffix][f"monai_anomaly/{name}"] == (ROOT / name).read_bytes(), name


@pytest.mark.parametrize("suffix", [".gz", ".whl"])
def test_all_code_and_nothing_of_the_repository_alone_is_in_it(contents, suffix):
    tracked = {name for name in source_files() if name.startswith("monai_anomaly/") and Path(name).suffix in (".py", ".typed")}
    of_package = {name for name in contents[suffix] if name.startswith("monai_anomaly/") and "/bundles/" not in name}
    assert of_package == tracked
    others = {name.split("/")[0] for name in contents[suffix]} - {"monai_anomaly"}
    if suffix == ".whl":
        assert others == {f"monai_anomaly-{monai_anomaly.__version__}.dist-info"}
    else:
        assert {"README.md", "LICENSE", "constraints.txt", "setup.cfg"} <= others and not others & {
            "apps",
            "benchmarks",
            "bundles",
            "tests",
            "tutorials",
        }


def test_the_wheel_says_what_it_is(contents):
    about = f"monai_anomaly-{monai_anomaly.__version__}.dist-info"
    metadata = HeaderParser().parsestr(contents[".whl"][f"{about}/METADATA"].decode())
    assert metadata["Version"] == monai_anomaly.__version__ and metadata["License"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    assert contents[".whl"][f"{about}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


class Installed:
    """An environment with the wheel, and a folder in which a user works."""

    def __init__(self, wheel: Path, folder: Path):
        venv.create(folder / "env", symlinks=os.name != "nt")
        self.python = folder / "env" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.run(
            "-m", "pip", "--python", str(self.python), "install", "--quiet", "--no-deps", "--no-index", str(wheel), python=sys.executable
        )
        (self.packages,) = (folder / "env").rglob("site-packages")
        # The dependencies are those of the environment that runs the tests. Folders that a .pth file names are searched, but .pth files in them are not read:
        # so the checkout, which is installed there by one, is not seen.
        found = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        (self.packages / "dependencies.pth").write_text("\n".join(found) + "\n")
        self.work = folder / "work"
        self.work.mkdir()

    def run(self, *words: str, python: Path | str | None = None, status: int = 0) -> str:
        """What a command says; it has to end with this status."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(python or self.python), *words]
        done = subprocess.run(command, cwd=getattr(self, "work", None), env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, (command, done.stdout[-2000:], done.stderr[-4000:])
        return done.stdout + done.stderr

    def files(self) -> set[Path]:
        return {path for path in self.packages.rglob("*") if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def installed(archives, tmp_path_factory) -> Installed:
    return Installed(archives[".whl"], tmp_path_factory.mktemp("installed"))


@pytest.mark.slow
def test_installed_it_lays_out_a_bundle_trains_it_and_scores(installed):
    before = installed.files()
    said = installed.run("-c", "import monai_anomaly, os; print(monai_anomaly.__file__); print(os.getcwd())").split()
    assert Path(said[0]).is_relative_to(installed.packages) and not Path(said[1]).is_relative_to(ROOT)
    write_image_folder(installed.work / "data", 6, 2)

    assert "10 files found: 10 read" in installed.run("-m", "monai_anomaly", "index", "data")
    assert "monai_anomaly/bundles: drd, escdrkd, rd4ad, scrd4ad, skipts" in installed.run("-m", "monai_anomaly", "doctor")
    assert "mine/skipts/train.json" in installed.run("-m", "monai_anomaly", "bundle", "skipts", "--to", "mine")
    run = ("-m", "monai.bundle", "run", "--dataset_dir", "data")
    installed.run(*run, "--config_file", "mine/skipts/train.json", *WORDS)
    installed.run(*run, "--config_file", "mine/skipts/inference.json")
    for name in ("models/model.pt", "models/run.json", "models/evaluation/metrics.json", "inference/images.csv"):
        assert (installed.work / "mine" / "skipts" / name).is_file(), name
    assert "skipts/models/model.pt" not in installed.run("-m", "monai_anomaly", "pack", "rd4ad", "--out", "rd4ad.zip")
    installed.run("-m", "monai_anomaly", "pack", "mine/skipts", "--out", "skipts.zip")
    with zipfile.ZipFile(installed.work / "skipts.zip") as archive:
        assert "skipts/models/model.pt" in archive.namelist()
    assert "--systems" in installed.run("-m", "monai_anomaly", "compare", "--help")
    assert installed.files() == before


@pytest.mark.slow
def test_nothing_is_written_into_the_installed_package(installed):
    before, config = installed.files(), installed.packages / "monai_anomaly" / "bundles" / "skipts" / "train.json"
    said = installed.run("-m", "monai.bundle", "run", "--config_file", str(config), status=1)
    assert "inside the installed package; expected a folder of yours" in said and "Traceback" not in said
    assert installed.files() == before
