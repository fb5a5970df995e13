HOST ?= 127.0.0.1
PORT ?= 8000
MIN ?= 30
PYTHON ?= python3
BIN := .venv/bin
TOOLS := .venvs/tools/bin
# Compiles the client that tests make in TypeScript.
TYPESCRIPT := typescript@5.9.3
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Compiled modules are kept even where the shell says otherwise: hundreds of processes import them.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: serve test suite pictures fuzz bench bench-peers bench-play soak installs hashes audit sbom lint types clean help

help:
	@echo "make serve   start the service on http://$(HOST):$(PORT) with the bundled model (HOST=, PORT= change that)"
	@echo "make test    lint, types and the whole test suite"
	@echo "make fuzz    random and malformed requests, bodies and bundles, for some minutes (ROUNDS=50)"
	@echo "make bench   how much serving costs on top of the model's arithmetic, and what an overloaded service answers (needs wrk)"
	@echo "make bench-peers   compare with LitServe, BentoML, MLServer, Triton, Ray Serve and FastAPI (ARGS=--help)"
	@echo "make bench-play   what policies score in SlimeVolley at a delay, by what they see of it; hours (ARGS=--help)"
	@echo "make soak MIN=30   mixed load for MIN minutes: memory and p99 over time in soak.png, and a verdict"
	@echo "make pictures   draw the pictures of README and docs from the running program (needs Chromium)"
	@echo "make installs   install it as users do, by pip, uv and pipx, with Python 3.11 to 3.13 (ARGS=--help)"
	@echo "make hashes  regenerate the lock files of the image and these tools in requirements/, with SHA-256 hashes"
	@echo "make audit   check the packages of the image for known vulnerabilities (asks PyPI)"
	@echo "make sbom    write dist/sbom.json, the bill of materials of the image's Python packages (CycloneDX)"
	@echo "make clean   remove .venv and everything that the tools created"

serve: .venv/serve
	@$(BIN)/jepa serve --host $(HOST) --port $(PORT)

# Types take one core, so they are checked beside the tests.
test: lint
	$(MAKE) -j 2 types suite

# Two processes start with half of the tests each, in order, so that tests of a file share its fixtures; the one that
# finishes first takes over some of the other's. Each computes on one thread, as idle ones would spin.
suite: .venv/test .venvs/clients/made
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# The property-based tests, with 50 times as many examples, and the tests that draw what they send, with as many rounds.
fuzz: .venv/test
	JEPA_FUZZ_ROUNDS=$(or $(ROUNDS),50) $(BIN)/python -m pytest --hypothesis-profile=fuzz --timeout=0 \
		tests/wire tests/bundle/test_reader.py tests/app/test_rows.py tests/app/api/test_documents.py tests/app/api/oip/test_tensors.py \
		tests/cli/test_damaged_recordings.py tests/model/data/test_round_trip.py

bench: .venv/test
	$(BIN)/python -m benchmarks.serving $(ARGS)
	$(BIN)/python -m benchmarks.overload $(if $(findstring --quick,$(ARGS)),--quick)

soak: .venv/test
	$(BIN)/python -m benchmarks.soak --minutes $(MIN) $(ARGS)

# Of the last commit, in environments of its own; some minutes.
installs: .venvs/tools/made
	$(TOOLS)/python .ci/installs.py $(ARGS)

pictures: .venv/test
	$(BIN)/python docs/pictures.py --port $(PORT)

# Each peer has a virtual environment of its own, created on the first call.
bench-peers: .venv/test
	$(BIN)/python -m benchmarks.peers.run $(ARGS)

bench-play: .venvs/play/made
	OMP_NUM_THREADS=1 .venvs/play/bin/python -W ignore -m benchmarks.play.run $(ARGS)

# For the image's Python on Linux. `make hashes UPGRADE=--upgrade` also updates the tools.
hashes: .venvs/tools/made
	for set in pyproject.toml:serve requirements/build.in:build requirements/tools.in:tools; do \
		UV_CUSTOM_COMPILE_COMMAND="make hashes" $(TOOLS)/uv pip compile --quiet --generate-hashes $(UPGRADE) \
			--python-version 3.11 --python-platform linux --no-strip-markers \
			-c constraints.txt -o requirements/$${set#*:}.txt $${set%:*} || exit 1; \
	done

audit: .venvs/tools/made
	@$(TOOLS)/pip-audit --strict --disable-pip --require-hashes -r requirements/serve.txt || { echo \
		"make audit: failed for the reason above. If that is a failed connection, or a package not found on PyPI," \
		"no advisories could be read, so this says nothing about vulnerabilities." >&2; exit 1; }

# Describes an environment with exactly the packages of the image.
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

# Without it, pip would say of an older Python that no version of some package fits.
OLD := import sys; v = sys.version_info[:2]; v >= (3, 11) or sys.exit('jepa-serve needs Python 3.11 or newer, and ' \
	'%s is Python %d.%d; name another: make clean, then make PYTHON=python3.13 ' % ((sys.executable,) + v) + '$(MAKECMDGOALS)')

# Each set of dependencies has a stamp file, so the second call installs nothing. The test set includes the serving set.
.venv/serve: pyproject.toml constraints.txt
	@echo "installing what serving needs into .venv, once"
	@test -x $(BIN)/python || { $(PYTHON) -c "$(OLD)" && $(PYTHON) -m venv .venv; }
	@$(BIN)/python -c "$(OLD)"
	@$(PIP) -e .
	@touch $@

.venv/test: pyproject.toml client/pyproject.toml constraints.txt
	@echo "installing what training and the tests need into .venv, once"
	@test -x $(BIN)/python || { $(PYTHON) -c "$(OLD)" && $(PYTHON) -m venv .venv; }
	@$(BIN)/python -c "$(OLD)"
	@$(PIP) -e '.[test]' -e ./client
	@touch .venv/serve $@

.venvs/tools/made: requirements/tools.txt
	$(PYTHON) -m venv --clear .venvs/tools
	$(TOOLS)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venvs/clients/made: requirements/clients.txt
	$(PYTHON) -m venv --clear .venvs/clients
	.venvs/clients/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -r $<
	@! command -v npm > /dev/null || npm install --prefix .venvs/clients --no-save --no-package-lock --silent $(TYPESCRIPT) || \
		echo "TypeScript could not be installed; the test of a client in it is skipped" >&2
	@touch $@

.venvs/play/made: requirements/play.txt pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venvs/play
	.venvs/play/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r $< -e '.[train]'
	@touch $@

.venvs/image/made: requirements/serve.txt .venvs/tools/made
	$(PYTHON) -m venv --clear --without-pip .venvs/image
	$(TOOLS)/python -m pip --python .venvs/image/bin/python install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

clean:
	rm -rf .venv .venvs dist benchmarks/peers/.venvs benchmarks/peers/.models .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info client/build client/*.egg-info
