# The verbs are the documentation: `make help`.
#
#   PYTHON   the Python (3.10 or newer) that makes the environment: make demo PYTHON=python3.12
#   VENV     where the environment goes: make test VENV=/tmp/venv
#   LABEL_VENV   where that of MONAI Label goes: make label LABEL_VENV=/tmp/label
#   OWN_TORCH=1   keep the torch that PYTHON already has (a container, a cluster) instead of the tested one: make demo PYTHON=/opt/conda/bin/python OWN_TORCH=1
PYTHON ?= python3
VENV ?= .venv
LABEL_VENV ?= .venv-label
BIN := $(VENV)/bin
PIP = $(@D)/bin/python -m pip --disable-pip-version-check install --quiet -c $(@D)/constraints.txt
INSTALLED := $(VENV)/.installed
LINTERS := $(VENV)/.linters
QUANTISER := $(VENV)/.quantiser
TUTORIALS := $(VENV)/.tutorials
SITE := $(VENV)/.site
COVERAGE := $(VENV)/.coverage
LABEL_BIN := $(LABEL_VENV)/bin
LABEL_INSTALLED := $(LABEL_VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv label demo test test-quick test-label coverage lint format docs tutorials bench bench-export clean

help:  ## list the verbs
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

venv: $(INSTALLED)  ## the environment in .venv with the tested versions (the other verbs make it when it is missing)

label: $(LABEL_INSTALLED)  ## the environment of MONAI Label in .venv-label; says how to start the server
	@echo "Activate it:  . $(LABEL_BIN)/activate"
	@echo "Start:        python -m monailabel.main start_server --app apps/anomaly --studies FOLDER_OR_DICOMWEB_URL --conf models skipts --host 127.0.0.1"

# torch comes first and alone, so that nothing that is installed later can choose or replace it: a CPU-only build stays what it is.
# An own torch may lie in an environment (conda, a container's venv), whose packages --system-site-packages does not show: own_torch.pth points to them.
%/.torch: constraints.txt apps/anomaly/constraints.txt
	@echo "Installing into $(@D); this takes some minutes, once."
ifdef OWN_TORCH
	@$(PYTHON) -c "import torch" 2>/dev/null || { echo "$(PYTHON) has no torch of its own that it can import: leave OWN_TORCH out, or name another PYTHON."; exit 1; }
	@$(PYTHON) -m venv --system-site-packages $(@D)
	@$(PYTHON) -c "import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])" > $$($(@D)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/own_torch.pth
	@cat $^ | grep -vE '^torch(vision)?==' > $(@D)/constraints.txt
	@$(PYTHON) -c "import torch; print('torch==' + torch.__version__)" >> $(@D)/constraints.txt
else
	@$(PYTHON) -m venv $(@D)
	@cat $^ > $(@D)/constraints.txt
	@$(PIP) torch
endif
	@touch $@

$(INSTALLED): $(VENV)/.torch setup.cfg
	@$(PIP) -e ".[test]"
	@touch $@

# MONAI Label's own list of dependencies cannot be met beside NumPy 2; apps/anomaly/requirements.txt says what it needs instead, and why.
$(LABEL_INSTALLED): $(LABEL_VENV)/.torch setup.cfg apps/anomaly/requirements.txt apps/pydicom-seg/pyproject.toml apps/pydicom-seg/pydicom_seg.py
	@$(PIP) -e . -r apps/anomaly/requirements.txt ./apps/pydicom-seg pytest
	@$(PIP) --no-deps monailabel
	@$(LABEL_BIN)/python -c "import torchvision" 2>/dev/null || echo "torchvision was built for another torch than the one here: apps/anomaly works all the same, the other apps of MONAI Label need the build that fits."
	@touch $@

$(LINTERS): $(INSTALLED)
	@$(PIP) -e ".[test,lint]"
	@touch $@

$(QUANTISER): $(INSTALLED)
	@$(PIP) -e ".[test,bench]"
	@touch $@

$(TUTORIALS): $(INSTALLED)
	@$(PIP) -e ".[test,tutorials]"
	@touch $@

$(SITE): $(INSTALLED)
	@$(PIP) -e ".[test,docs]"
	@touch $@

$(COVERAGE): $(INSTALLED)
	@$(PIP) -e ".[test,coverage]"
	@touch $@

demo: $(INSTALLED)  ## train on the built-in study, evaluate, write heat maps; says where they are
	$(BIN)/python -m monai.bundle run --config_file bundles/skipts/train.json
	$(BIN)/python -m monai.bundle run --config_file bundles/skipts/inference.json
	@echo "Pictures: bundles/skipts/models/evaluation/contact_sheet.png and bundles/skipts/inference/heatmaps/"
	@echo "Scores:   bundles/skipts/models/evaluation/metrics.json and bundles/skipts/inference/patients.csv"

test: $(INSTALLED)  ## all tests
	$(BIN)/python -m pytest

test-quick: $(INSTALLED)  ## without the slow tests and the real images
	$(BIN)/python -m pytest -m "not slow and not real"

test-label: $(LABEL_INSTALLED)  ## the tests of MONAI Label, in its environment
	$(LABEL_BIN)/python -m pytest tests/label tests/apps monai_anomaly/label

coverage: $(COVERAGE)  ## all tests, and the lines of the package that none of them runs; fails below 90 %
	COVERAGE_FILE=$(abspath $(VENV)/coverage) $(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered

lint: $(LINTERS)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(LINTERS)  ## let ruff mend and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(SITE)  ## the documents as a site, in site/index.html, and its tests
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	$(BIN)/python -m pytest -q tests/docs/test_site.py tests/test_documents.py::test_the_site_names_pages_that_exist_and_every_document
	@echo "The site: site/index.html"

tutorials: $(TUTORIALS)  ## run the notebooks from top to bottom and keep what they show; to read and try them: .venv/bin/jupyter lab tutorials
	$(BIN)/python tutorials/execute.py

bench: $(INSTALLED)  ## training step, scoring and memory over a plain network
	$(BIN)/python benchmarks/lean.py

bench-export: $(QUANTISER)  ## exported files against PyTorch: latency on this machine, AUROC on DATA=folder/of/head_ct
	$(BIN)/python benchmarks/export_latency.py --data $(DATA)

clean:  ## remove the environments and everything that was built or that runs wrote into the repository
	rm -rf $(VENV) $(LABEL_VENV) bundles/*/models bundles/*/evaluation bundles/*/inference runs *.egg-info
	rm -rf build dist site
	rm -rf apps/anomaly/bin apps/anomaly/lib apps/anomaly/logs apps/anomaly/model apps/*/build apps/*/*.egg-info
	rm -rf .pytest_cache .ruff_cache .mypy_cache
