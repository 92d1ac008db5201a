# Everything a newcomer or CI runs. `make demo` and `make test` work on a machine with python3 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NNUNET := .venv-nnunet
PIP := $(BIN)/python -m pip --quiet
# A process a core, each on one thread; a file of fast tests stays in one, for what its tests share.
PARALLEL := -n auto --maxprocesses 8 --dist
.DEFAULT_GOAL := help
.PHONY: help setup demo app test test-slow lint docs check format tools nnunet readers findings clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.stamp-dev ## make the environment in .venv, with training and development tools

demo: $(VENV)/.stamp-base ## generate one patient with the shipped weights into demo/
	$(BIN)/cinesynth generate --diagnosis DCM --edv 280 --ef 25 --slices 10 --frames 30 --seed 7 --out demo/ --overwrite

app: $(VENV)/.stamp-app ## open the app: hearts in your browser, on this machine alone
	$(BIN)/cinesynth serve

test: $(VENV)/.stamp-dev ## run the tests, with coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) loadfile --cov --cov-report=term

test-slow: $(VENV)/.stamp-dev ## run the tests that take minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(PARALLEL) load

lint: $(VENV)/.stamp-dev ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.stamp-dev ## the documentation as a site in site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: lint docs test ## everything before a commit

format: $(VENV)/.stamp-dev ## let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tools: readers ## nnU-Net, other readers, dciodvfy and Chromium (Debian, as root): tests check exports and the app with them
	@{ command -v dciodvfy && command -v chromium; } || \
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then $(APT_TOOLS); \
	else echo "dciodvfy (dicom3tools) or chromium is not here: install both, or their tests are skipped"; fi

nnunet: $(NNUNET)/.stamp ## nnU-Net in .venv-nnunet, on the torch of .venv

readers: $(NNUNET)/.stamp-readers ## beside nnU-Net and its SimpleITK: TorchIO, dcm2niix and dcmqi, which read exports in tests

findings: ## run the scripts of findings/: surprises of other tools, each with a release of its own
	@set -e; for script in findings/*.sh; do echo "== $$script"; bash "$$script"; done

clean: ## remove the environments, caches and the demo
	rm -rf $(VENV) $(NNUNET) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage demo site

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamps date from the last installation: a newer pyproject.toml installs again.
$(VENV)/.stamp-base: pyproject.toml | $(BIN)/python
	$(PIP) install -e .
	@touch $@

$(VENV)/.stamp-app: pyproject.toml | $(BIN)/python
	$(PIP) install -e ".[app]"
	@touch $@

$(VENV)/.stamp-dev: pyproject.toml | $(BIN)/python
	$(PIP) install -e ".[all,dev]"
	@touch $(VENV)/.stamp-base $(VENV)/.stamp-app $@

# nnU-Net's own requirements bring torchvision and, with it, 5 GB of CUDA; its trainer and its checks need neither.
NNUNET_PINS := nnunetv2==2.8.1 dynamic-network-architectures==0.4.4 timm==1.0.22
NNUNET_NEEDS := acvl-utils==0.2.6 batchgenerators==0.25.5 batchgeneratorsv2==0.3.6 "blosc2>=3.3.2,<5" einops graphviz \
	huggingface_hub imagecodecs pandas requests "scikit-image<1" "scikit-learn<2" "seaborn<1" "SimpleITK<3" tifffile yacs
READERS := dcm2niix==1.0.20260724 dcmqi==1.5.7 torchio==1.2.1
SITE_PACKAGES := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
APT_TOOLS := apt-get -q -o Acquire::Retries=5 update && \
	apt-get -q -y -o Acquire::Retries=5 install --no-install-recommends dicom3tools chromium

# An environment of its own, so that `pip check` of .venv stays clean; the .pth lets it see what .venv has.
$(NNUNET)/.stamp: Makefile | $(VENV)/.stamp-base
	rm -rf $(NNUNET)
	$(BIN)/python -m venv $(NNUNET)
	$(BIN)/python $(SITE_PACKAGES) > "$$($(NNUNET)/bin/python $(SITE_PACKAGES))/beside.pth"
	$(NNUNET)/bin/python -m pip --quiet install --no-deps $(NNUNET_PINS)
	$(NNUNET)/bin/python -m pip --quiet install $(NNUNET_NEEDS)
	@touch $@

$(NNUNET)/.stamp-readers: $(NNUNET)/.stamp
	$(NNUNET)/bin/python -m pip --quiet install $(READERS)
	@touch $@
