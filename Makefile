# The verbs are the documentation: `make help`.
#
#   PYTHON   the Python (3.10 or newer) that makes the environment: make demo PYTHON=python3.12
#   VENV     where the environment goes: make test VENV=/tmp/venv
#   OWN_TORCH=1   keep the torch that PYTHON already has (a container, a cluster) instead of the tested one: make demo PYTHON=/opt/conda/bin/python OWN_TORCH=1
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c $(VENV)/constraints.txt
INSTALLED := $(VENV)/.installed
LINTERS := $(VENV)/.linters
QUANTISER := $(VENV)/.quantiser

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-quick lint format bench bench-export clean

help:  ## list the verbs
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

venv: $(INSTALLED)  ## the environment in .venv with the tested versions (the other verbs make it when it is missing)

# torch comes first and alone, so that nothing that is installed later can choose or replace it: a CPU-only build stays what it is.
$(INSTALLED): setup.cfg constraints.txt
	@echo "Installing into $(VENV); this takes some minutes, once."
ifdef OWN_TORCH
	@$(PYTHON) -c "import torch" 2>/dev/null || { echo "$(PYTHON) has no torch of its own that it can import: leave OWN_TORCH out, or name another PYTHON."; exit 1; }
	@$(PYTHON) -m venv --system-site-packages $(VENV)
	@grep -vE '^torch(vision)?==' constraints.txt > $(VENV)/constraints.txt
	@$(PYTHON) -c "import torch; print('torch==' + torch.__version__)" >> $(VENV)/constraints.txt
else
	@$(PYTHON) -m venv $(VENV)
	@cp constraints.txt $(VENV)/constraints.txt
	@$(PIP) torch
endif
	@$(PIP) -e ".[test]"
	@touch $@

$(LINTERS): $(INSTALLED)
	@$(PIP) -e ".[test,lint]"
	@touch $@

$(QUANTISER): $(INSTALLED)
	@$(PIP) -e ".[test,bench]"
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

lint: $(LINTERS)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(LINTERS)  ## let ruff mend and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## training step, scoring and memory over a plain network
	$(BIN)/python benchmarks/lean.py

bench-export: $(QUANTISER)  ## exported files against PyTorch: latency on this machine, AUROC on DATA=folder/of/head_ct
	$(BIN)/python benchmarks/export_latency.py --data $(DATA)

clean:  ## remove the environment and everything that runs wrote into the repository
	rm -rf $(VENV) bundles/*/models bundles/*/evaluation bundles/*/inference bundles/*/output runs outputs *.egg-info
	rm -rf .pytest_cache .ruff_cache .mypy_cache
