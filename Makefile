# `make` lists what there is. Everything runs in .venv, which `make setup` builds from requirements.txt.
PYTHON  ?= python3.11
EDITION ?=
BIN     := .venv/bin
SHARED  := $(abspath $(wildcard ../shared/data))

# Where real radiographs and label tables lie, if anywhere (docs/data.md). Empty: editions of real images stop
# and say so, and tests that need them are skipped.
export CXR_DATA ?= $(SHARED)
export PATH := $(abspath $(BIN)):$(PATH)
export PYTHONHASHSEED := 0

.DEFAULT_GOAL := help
.PHONY: help setup edition repro beyond replay status push pull gc privacy verify test lint lab site explorer pdf readme scan lock clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: ## install everything into .venv (1-5 minutes; BIN=DIR uses another environment)
	@$(if $(filter .venv/bin,$(BIN)),PYTHON="$(PYTHON)" bash tools/setup.sh)

edition: setup ## put editions/EDITION.yaml in force as params.yaml
	@$(BIN)/cxr edition $(EDITION)

repro: setup ## run the pipeline, stages side by side (EDITION=nih_mini; STAGES="train results"; WORKERS=N; PLACE=slurm)
	@$(BIN)/python -m cxrlib.commands.repro $(if $(EDITION),--edition $(EDITION)) $(if $(WORKERS),--workers $(WORKERS)) $(if $(PLACE),--place $(PLACE)) $(STAGES)

beyond: setup ## train the dose-response study of label noise (an hour on 2 cores; interrupted, it goes on) and write its page
	@$(BIN)/python -m cxrlib.commands.beyond

status: setup ## say which stages are out of date
	@$(BIN)/python -m cxrlib.commands.repro --dry

push: setup ## push to a DVC remote what may go there (REMOTE=store); docs/guides/dvc_remotes.md
	@$(BIN)/cxr push $(REMOTE)

pull: setup ## get this edition's files from a DVC remote, checked (REMOTE=store)
	@$(BIN)/cxr pull $(REMOTE)

gc: setup ## remove from DVC's cache what no version of dvc.lock names; `dvc gc` would take other editions' results
	@$(BIN)/cxr gc $(if $(DRY),--dry)

privacy: setup ## search every committed file for traces of patients
	@$(BIN)/cxr privacy

verify: setup ## compare the tables here with those that are committed
	@$(BIN)/cxr verify

replay: setup ## recompute every table from the published predictions: no GPU, no images
	$(BIN)/python -m cxrlib.commands.replay

test: setup ## lint, types, unit tests, the committed notebooks re-run and compared (SLOW=1: the longest of them too)
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy --no-error-summary
	$(BIN)/pytest -n 2 $(if $(SLOW),,-m "not slow")

lint: setup ## ruff and mypy: style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

lab: setup ## open the notebooks (PORT=8888 TOKEN=... LAB='--no-browser --allow-root')
	JUPYTER_CONFIG_PATH="$(CURDIR)/tools/lab$${JUPYTER_CONFIG_PATH:+:$$JUPYTER_CONFIG_PATH}" PYTHONSTARTUP="$(CURDIR)/tools/lab/startup.py" \
	  $(BIN)/jupyter lab --notebook-dir . $(if $(PORT),--port $(PORT)) $(if $(TOKEN),--IdentityProvider.token=$(TOKEN)) $(LAB) notebooks/00_tour.ipynb

site: setup ## render the paper to site/index.html: notebooks, results, guides; no network
	$(BIN)/python -m cxrlib.commands.site

explorer: setup ## write site/explorer/index.html: images, labels, operating points, topics and neighbours to look through
	$(BIN)/python -m cxrlib.commands.explorer

pdf: site ## print the paper to site/paper.pdf (needs Chromium)
	$(BIN)/python -m cxrlib.commands.site --pdf

readme: setup ## fill the tables and numbers of README.md and docs/ from their files
	$(BIN)/python -m cxrlib.commands.readme

scan: setup ## scan for known holes and unsuitable licences (exit status 3: no service of known holes answered)
	$(BIN)/python tools/scan.py

lock: ## resolve pyproject.toml into requirements.txt (UPGRADE="numpy pandas": these anew)
	bash tools/lock.sh

clean: ## remove the environment and the rendered site; data and results stay
	rm -rf .venv site build
