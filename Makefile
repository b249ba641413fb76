# `make` alone explains the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUN := TOKENIZERS_PARALLELISM=false $(BIN)

.DEFAULT_GOAL := help
.PHONY: help demo demo-real test test-slow lint base wheel clean

help:
	@echo "make demo       create the environment, run the main job, write runs/demo/"
	@echo "make demo-real  the same commands on SmolLM2-135M (half an hour), writes runs/real/"
	@echo "make test       create the environment if needed, lint, run the fast tests"
	@echo "make test-slow  run the slow tests"
	@echo "make lint       ruff and mypy alone"
	@echo "make base       pre-train the shipped bases again (about 45 minutes each, one core)"
	@echo "make wheel      build the wheel into dist/"
	@echo "make clean      remove the environment and everything made here"

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet "$$(grep '^torch==' constraints.txt)"
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.ready
	$(RUN)/pacbayes-sft demo --out runs/demo

demo-real: $(VENV)/.ready
	$(PIP) install --quiet --constraint constraints.txt --editable '.[real]'
	$(RUN)/python benchmarks/real.py

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict estimators
	$(BIN)/mypy pacbayes_sft

test: lint
	$(RUN)/python -m pytest

test-slow: $(VENV)/.ready
	$(RUN)/python -m pytest -m slow

base: $(VENV)/.ready
	$(RUN)/python -m pacbayes_sft.bases.pretrain --ops 2:8 --steps 6000 --seed 0 --out runs/strong
	$(RUN)/python -m pacbayes_sft.bases.pretrain --ops 2:6 --steps 6000 --seed 1 --out runs/weak

wheel: $(VENV)/.ready
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) runs build dist *.egg-info

.PHONY: bench-streaming
bench-streaming: $(VENV)/.ready
	$(RUN)/python benchmarks/streaming.py
