# `make help` lists what there is. PYTHON: the Python (3.11 or newer) that makes the environment.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help book test lint serve notebooks sync outputs configure lock clean

help: ## list these targets
	@echo "ResNet from the Ground Up. On a fresh machine, either of the first two does everything."
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Options: PYTHON=python3.12 (which Python), TORCH_INDEX=<url> (where torch comes from)."

book: ## environment, packages, and the book in _build/html
	@$(PYTHON) tools/environment.py $(VENV) requirements.txt
	@echo "Building the book. Chapters that have changed are executed: some minutes the first time."
	@$(BIN)/jupyter-book build --warningiserror --keep-going .
	@echo "Done: open _build/html/index.html"

test: ## environment, the book, unit tests, notebooks (nbval), pages in a real browser
	@$(PYTHON) tools/environment.py $(VENV) requirements-dev.txt
	@$(BIN)/jupyter-book build --warningiserror --keep-going .
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

lint: ## ruff on code and notebooks, and generated parts in step with their sources
	@$(PYTHON) tools/environment.py $(VENV) requirements-dev.txt
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python tools/sync.py --check

serve: book ## build, then serve the book at http://localhost:8000
	@$(BIN)/python -m http.server --directory _build/html --bind 127.0.0.1 8000

notebooks: ## notebooks that run anywhere, and a zip of them for a class, in _build/notebooks
	@$(PYTHON) tools/environment.py $(VENV) requirements.txt
	@$(BIN)/python tools/portable.py

sync: ## write the generated parts: setup cells, addresses, notebook metadata
	@$(PYTHON) tools/environment.py $(VENV) requirements-dev.txt
	@$(BIN)/python tools/sync.py

outputs: ## run the notebooks and store the text outputs that nbval compares
	@$(PYTHON) tools/environment.py $(VENV) requirements-dev.txt
	@$(BIN)/python tools/outputs.py

configure: ## set the repository's address everywhere: make configure URL=https://github.com/you/repo
	@$(PYTHON) tools/environment.py $(VENV) requirements-dev.txt
	@$(if $(filter undefined,$(origin URL)),$(error name it: make configure URL=https://github.com/you/repo (URL= alone unsets it)))
	@$(BIN)/python tools/sync.py --repository "$(URL)"

lock: ## write constraints.txt from the environment as it is
	@$(BIN)/python -m pip freeze --exclude-editable \
	  | grep -v -i -E '^(torch|triton|nvidia|cuda)|@' > constraints.txt

clean: ## remove the built book and its cache (the environment stays)
	@rm -rf _build
