# Two commands do it all on a fresh machine: make demo, make test. Each makes .venv and installs what it needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# where a GPU is found, torch is left to pip; elsewhere the constraints keep it on its CPU build
CONSTRAINTS := $(if $(shell command -v nvidia-smi),,-c constraints.txt)

.PHONY: demo test check unit docs clean

$(VENV)/.made: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $(CONSTRAINTS) -e ".[all,test,dev,docs]"
	@touch $@

demo: $(VENV)/.made   ## compare four kinds of model on digits, and a GPT with an n-gram on Python's manual
	$(BIN)/pieria compare digits --models mixture,vae,gan --time 30s --out runs/demo-digits
	$(BIN)/pieria fit python-manual --model gpt --time 60s --out runs/demo-gpt
	$(BIN)/pieria evaluate runs/demo-gpt
	$(BIN)/pieria sample runs/demo-gpt -n 2 --temperature 0.8
	@echo "The report: runs/demo-digits/report.html"

test: check unit      ## everything that CI runs

check: $(VENV)/.made  ## style, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.made   ## every test, docstring example and README command
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --durations=15

docs: $(VENV)/.made   ## the site in site/, with pictures made by the commands that the pages name
	$(BIN)/python examples/pages_of_how_it_works.py
	$(BIN)/zensical build

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache site
