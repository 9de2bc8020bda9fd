# Every target does the set-up that it needs, from nothing: Python 3.11 or newer and make are enough.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
DEMO_HOME ?= $(CURDIR)/.demo
SHIPPED = orchestrator remote/agent.py remote/gpuplan_agent remote/distributed-llama/dllama_glm
COMPILED = $(CURDIR)/remote/distributed-llama/dllama_glm/quantise/__pycache__
export PYTHONDONTWRITEBYTECODE =

# They share nothing but what they read: two at a time, mypy first, which takes as long as all others.
CHECKS = types style types-darwin layers blocks site
TOGETHER = --no-print-directory --jobs 2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

TWINE = build/twine/bin/twine

.PHONY: install demo check $(CHECKS) warm ready test coverage mutants liars faults disasters fuzz gpu lock bench dist smoke clean
N ?= 300
SEED ?= 1
SEEDS ?= 200
MINUTES ?= 10
FUZZERS = 17

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gpuplan needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(if $(LOCKED),$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tools/locks/dev.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: install warm  ## the whole plan, rehearsed on this computer
	@rm -rf "$(DEMO_HOME)"
	GPUPLAN_HOME="$(DEMO_HOME)" NUMBA_CACHE_DIR="$(COMPILED)" $(BIN)/gpuplan run all --plan shipped --dry-run --yes

check: install  ## style, types, layers; the pages' code blocks, and the pages as a site, each link looked at
	@$(MAKE) $(TOGETHER) $(CHECKS)

style: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy

# What macOS lacks is found in our own lines, without the types of libraries: those were looked at by the other run.
types-darwin: install
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin --no-site-packages --ignore-missing-imports \
	  --allow-subclassing-any --allow-untyped-decorators --no-warn-return-any --no-warn-unused-ignores $(SHIPPED)

layers: install
	$(BIN)/lint-imports

blocks: install
	$(BIN)/python -m tools.blocks

site: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

warm: install  ## the kernels, compiled once for the tests and the demo
	@$(BIN)/python remote/distributed-llama/dllama warm

ready: install
	@$(MAKE) $(TOGETHER) $(CHECKS) warm

test: ready  ## check, and everything that must hold
	$(BIN)/pytest -n 4 --dist loadgroup -m "not faults and not liars"

coverage: ready  ## the same tests, traced; the floors that must hold
	$(BIN)/coverage erase
	$(BIN)/pytest -n 4 --dist loadgroup -m "not faults and not liars" --timeout 1200 --cov --cov-report=
	$(BIN)/coverage json -q -o .coverage.json
	$(BIN)/python tools/floors.py .coverage.json

mutants: install  ## whether the tests notice when a line is another one: N=300 SEED=1, at most 30 minutes
	$(BIN)/python tools/mutants.py -n $(N) --seed $(SEED)

liars: install warm  ## payloads and plans that do not do the work: each loses what the honest one gets (docs/evidence.md)
	$(BIN)/pytest tests/liars

faults: install warm  ## the fault matrix (docs/faults.md), and what is marked faults: disasters and kill points, long
	$(BIN)/python -m tools.faults
	$(BIN)/pytest -n 2 --dist loadgroup -m faults

disasters: install  ## SEEDS=200 of a simulation in which everything goes wrong; SEED=n: that one again, and all of it
	$(BIN)/python -m tools.disasters $(if $(filter command line environment,$(origin SEED)),--seed $(SEED),--seeds $(SEEDS) --jobs 2)

fuzz: install  ## whatever others write, changed at random, for MINUTES=10; SEED=... repeats a run
	FUZZ_SECONDS=$$(( $(MINUTES) * 120 / $(FUZZERS) )) FUZZ_SEED=$(SEED) $(BIN)/pytest -n 2 tests/fuzz

bench: install  ## what docs/benchmarks.md says, measured again on this computer
	$(BIN)/python bench/converter.py
	$(BIN)/python bench/runtime.py
	$(BIN)/python bench/start.py
	$(BIN)/python bench/controller.py
	$(BIN)/python bench/transfers.py
	$(BIN)/python bench/ranks.py
	$(BIN)/python bench/installed.py --page docs/benchmarks.md

dist: install $(TWINE)  ## sdist and wheel in dist/, held to what is promised of them; of a tree without changes
	@rm -rf dist
	$(BIN)/python tools/dist.py --twine $(TWINE)

# twine is apart from the developers' environment, which needs nothing of what it brings.
$(TWINE):
	$(PYTHON) -m venv build/twine
	build/twine/bin/python -m pip install --quiet --disable-pip-version-check 'twine>=6.1'

smoke: dist  ## the wheel's core, installed and used with each Python from 3.11 that is found here
	$(BIN)/python tools/smoke.py dist/*.whl

lock:  ## names, versions and hashes of what machines and developers install, renewed (needs Python 3.10 and 3.11)
	$(PYTHON) tools/lock.py --work build/lock

gpu: install  ## tests and a benchmark on the NVIDIA card that is here, and docs/gpu-report.md; TUNE=1 finds tile sizes
	$(BIN)/python tools/gpu_report.py $(if $(TUNE),--tune)

clean:
	rm -rf $(VENV) .demo build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
