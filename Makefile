# make run: set up, and run the whole pipeline on the embedded default.  make test: set up, and pass the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

.PHONY: help setup run test lint format clean

help:  ## Show the targets.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

setup: $(STAMP)  ## Make the virtual environment with the pinned dependencies.

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q uv 2>/dev/null || true
	{ test -x $(BIN)/uv && $(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[dev]'; } \
	  || $(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@# The wheel holds the library only; this checkout is the application.
	echo '$(CURDIR)' > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvr-application.pth"
	printf '#!/bin/sh\nexec "%s/python" -m flows.cli "$$@"\n' '$(CURDIR)/$(BIN)' > $(BIN)/nvr && chmod +x $(BIN)/nvr
	touch $@

run: setup  ## Set up, and run the whole pipeline on the embedded default.
	$(BIN)/nvr run

test: setup  ## Set up, lint, and run the tests.
	$(MAKE) --no-print-directory lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: setup  ## ruff and mypy.
	$(BIN)/ruff check -q .
	$(BIN)/ruff format -q --check .
	$(BIN)/mypy nv_retriever tasks flows deployments

format: setup  ## Format the code.
	$(BIN)/ruff check -q --fix . && $(BIN)/ruff format -q .

clean:  ## Remove the virtual environment and the default home.
	rm -rf $(VENV) .nvr
