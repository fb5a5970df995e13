HOST ?= 127.0.0.1
PORT ?= 8000
MIN ?= 30
PYTHON ?= python3
BIN := .venv/bin
TOOLS := .venvs/tools/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: serve test fuzz bench bench-peers soak hashes audit sbom lint types clean help

help:
	@echo "make serve   start the service on http://$(HOST):$(PORT) with the bundled model (HOST=, PORT= change that)"
	@echo "make test    lint, types and the whole test suite"
	@echo "make fuzz    wrong and random requests, bodies and bundles, for some minutes"
	@echo "make bench   what serving costs beside the model's arithmetic, one table (needs wrk and h2load)"
	@echo "make bench-peers   the service beside LitServe, BentoML, MLServer, Ray Serve and FastAPI (ARGS=--help)"
	@echo "make soak MIN=30   so many minutes of everything at once: memory and p99 over time as soak.png, and a verdict"
	@echo "make hashes  write requirements/{serve,build,tools}.txt anew: what the image and these tools are made of, by SHA-256"
	@echo "make audit   whether what the image is made of has known holes (asks PyPI)"
	@echo "make sbom    dist/sbom.json, the bill of materials of the image's Python packages (CycloneDX)"
	@echo "make clean   remove .venv and what the tools left behind"

serve: .venv/serve
	$(BIN)/jepa serve --host $(HOST) --port $(PORT)

# Two processes, each of which starts with half of the tests in order, and takes over what the other has left.
test: lint types .venvs/kserve/made
	$(BIN)/python -m pytest -n 2 --dist worksteal

# The tests that draw their examples, with 50 times as many.
fuzz: .venv/test
	$(BIN)/python -m pytest --hypothesis-profile=fuzz --timeout=0 \
		tests/wire/test_contract.py tests/wire/test_fuzz.py tests/bundle/test_reader.py tests/app/test_rows.py tests/app/api/oip/test_tensors.py

bench: .venv/test
	$(BIN)/python -m benchmarks.serving $(ARGS)

soak: .venv/test
	$(BIN)/python -m benchmarks.soak --minutes $(MIN) $(ARGS)

# Each peer in a virtual environment of its own, made on the first call.
bench-peers: .venv/test
	$(BIN)/python -m benchmarks.peers.run $(ARGS)

# For the Python of the image on Linux; to bring the tools up to date: make hashes UPGRADE=--upgrade
hashes: .venvs/tools/made
	for set in pyproject.toml:serve requirements/build.in:build requirements/tools.in:tools; do \
		UV_CUSTOM_COMPILE_COMMAND="make hashes" $(TOOLS)/uv pip compile --quiet --generate-hashes $(UPGRADE) \
			--python-version 3.11 --python-platform linux --no-strip-markers \
			-c constraints.txt -o requirements/$${set#*:}.txt $${set%:*} || exit 1; \
	done

audit: .venvs/tools/made
	@$(TOOLS)/pip-audit --strict --disable-pip --require-hashes -r requirements/serve.txt || { echo \
		"make audit: failed for the reason above. Where that is a connection, or a package that was not found on PyPI," \
		"no list of advisories can be read from this machine, and nothing is known of holes." >&2; exit 1; }

# Of an environment that holds what the image holds, and nothing else.
sbom: .venvs/tools/made .venvs/image/made
	mkdir -p dist
	$(TOOLS)/cyclonedx-py environment --validate --output-reproducible --pyproject pyproject.toml \
		--spec-version 1.6 --output-file dist/sbom.json .venvs/image/bin/python

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

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

.venvs/tools/made: requirements/tools.txt
	$(PYTHON) -m venv --clear .venvs/tools
	$(TOOLS)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venvs/kserve/made: requirements/kserve.txt
	$(PYTHON) -m venv --clear .venvs/kserve
	.venvs/kserve/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -r $<
	@touch $@

.venvs/image/made: requirements/serve.txt .venvs/tools/made
	$(PYTHON) -m venv --clear --without-pip .venvs/image
	$(TOOLS)/python -m pip --python .venvs/image/bin/python install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

clean:
	rm -rf .venv .venvs dist benchmarks/peers/.venvs benchmarks/peers/.models .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info client/build client/*.egg-info
