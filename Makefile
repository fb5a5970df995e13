HOST ?= 127.0.0.1
PORT ?= 8000
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: serve test fuzz bench bench-peers lint types clean help

help:
	@echo "make serve   start the service on http://$(HOST):$(PORT) with the bundled model (HOST=, PORT= change that)"
	@echo "make test    lint, types and the whole test suite"
	@echo "make fuzz    wrong and random requests, bodies and bundles, for about ten minutes"
	@echo "make bench   what serving costs beside the model's arithmetic, one table (needs wrk and h2load)"
	@echo "make bench-peers   the service beside LitServe, BentoML, MLServer, Ray Serve and FastAPI (ARGS=--help)"
	@echo "make clean   remove .venv and what the tools left behind"

serve: .venv/serve
	$(BIN)/jepa serve --host $(HOST) --port $(PORT)

test: lint types
	$(BIN)/python -m pytest

# The tests that draw their examples, with 50 times as many.
fuzz: .venv/test
	$(BIN)/python -m pytest --hypothesis-profile=fuzz --timeout=0 \
		tests/app/test_contract.py tests/app/test_fuzz.py tests/app/test_bundle.py tests/app/test_wire.py tests/app/test_tensors.py

bench: .venv/test
	$(BIN)/python -m benchmarks.serving $(ARGS)

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
