HOST ?= 127.0.0.1
PORT ?= 8000
MIN ?= 30
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: serve test bench bench-peers soak lint types clean help

help:
	@echo "make serve   start the service on http://$(HOST):$(PORT) with the bundled model (HOST=, PORT= change that)"
	@echo "make test    lint, types and the whole test suite"
	@echo "make bench   what serving costs beside the model's arithmetic, one table (needs wrk and h2load)"
	@echo "make bench-peers   the service beside LitServe, BentoML, MLServer, Ray Serve and FastAPI (ARGS=--help)"
	@echo "make soak MIN=30   so many minutes of everything at once: memory and p99 over time as soak.png, and a verdict"
	@echo "make clean   remove .venv and what the tools left behind"

serve: .venv/serve
	$(BIN)/jepa serve --host $(HOST) --port $(PORT)

test: lint types
	$(BIN)/python -m pytest

bench: .venv/test
	$(BIN)/python -m benchmarks.serving $(ARGS)

soak: .venv/test
	$(BIN)/python -m benchmarks.soak --minutes $(MIN) $(ARGS)

# Each peer in a virtual environment of its own, made on the first call.
bench-peers: .venv/test
	$(BIN)/python -m benchmarks.peers.run $(ARGS)

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/test
	$(BIN)/mypy

# A stamp per set of dependencies: the second call installs nothing. Whoever has the test set has the serving set.
.venv/serve: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e .
	@touch $@

.venv/test: pyproject.toml client/pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e '.[test]' -e ./client
	@touch .venv/serve $@

clean:
	rm -rf .venv benchmarks/peers/.venvs benchmarks/peers/.models .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info client/build client/*.egg-info
