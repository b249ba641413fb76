# `make` alone explains the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# without their declared torchvision, which they never import and whose wheels want another torch
KFAC := curvlinops-for-pytorch backpack-for-pytorch unfoldNd
RUN := TOKENIZERS_PARALLELISM=false $(BIN)

.DEFAULT_GOAL := help
.PHONY: help demo demo-real test test-slow lint base wheel clean

help:
	@echo "make demo       create the environment, run the main job, write runs/demo/"
	@echo "make demo-real  the same commands on SmolLM2-135M (forty minutes or more), writes runs/real/"
	@echo "make test       create the environment if needed, lint, run the fast tests"
	@echo "make test-slow  run the slow tests"
	@echo "make matrix     every kind of adapter and checkpoint, against PEFT"
	@echo "make fuzz       thousands of broken directories, each must end in one sentence"
	@echo "make bench-streaming  how fast a KL streams, against a plain read (five minutes, 18 GB of disk)"
	@echo "make map        the difficulty map: the cells that have no record yet (many hours)"
	@echo "make map-quick  a small map of its own, in ten minutes"
	@echo "make lint       ruff and mypy alone"
	@echo "make base       pre-train the shipped bases again (about 45 minutes each, one core)"
	@echo "make docs       build the pages of docs/ into build/docs, warnings are errors"
	@echo "make wheel      build the wheel into dist/"
	@echo "make clean      remove the environment and everything made here"

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet "$$(grep '^torch==' constraints.txt)"
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	$(PIP) install --quiet --constraint constraints.txt --no-deps $(KFAC)
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
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest --numprocesses auto --dist loadfile

test-slow: $(VENV)/.ready
	$(RUN)/python -m pytest -m slow

base: $(VENV)/.ready
	$(RUN)/python -m pacbayes_sft.bases.pretrain --ops 2:8 --steps 6000 --seed 0 --out runs/strong
	$(RUN)/python -m pacbayes_sft.bases.pretrain --ops 2:6 --steps 6000 --seed 1 --out runs/weak

wheel: $(VENV)/.ready
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) runs build dist *.egg-info

matrix: $(VENV)/.ready  # every adapter and full checkpoint people have, against PEFT
	$(RUN)/python -m pytest -m "slow or not slow" tests/pacbayes_sft/checkpoints tests/pacbayes_sft/test_inspection.py

.PHONY: matrix

fuzz: $(VENV)/.ready  # thousands of broken directories, each must end in one sentence
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest -m "slow or not slow" tests/fuzz

.PHONY: fuzz

.PHONY: bench-streaming
bench-streaming: $(VENV)/.ready
	$(RUN)/python benchmarks/streaming.py

.PHONY: docs
docs: $(VENV)/.ready
	$(RUN)/python -m sphinx -W --keep-going -q docs build/docs
	@echo "open build/docs/index.html"

.PHONY: map map-quick
map: $(VENV)/.ready  # stop it anywhere: the same command goes on
	OMP_NUM_THREADS=1 $(RUN)/python benchmarks/map.py

map-quick: $(VENV)/.ready
	OMP_NUM_THREADS=1 $(RUN)/python benchmarks/map.py --quick
