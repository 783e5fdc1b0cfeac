# Each target makes its own .venv. Only Python 3.11 or later, make and a package index are needed.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready-for-requirements-dev
DOCS := .venv-docs/.ready-for-requirements-docs
TYPESCRIPT ?= var/typescript
# Else each of the many processes that tests start compiles every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo run test types lint test-all check docs npm typescript bench fuzz stress faults drill soak citus screenshots lock release fmt clean
.DEFAULT_GOAL := test

$(READY): requirements-dev.txt client/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo '$(PYTHON) is missing or older than 3.11: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e client
	@touch $@

$(DOCS): requirements-docs.txt
	@test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.txt
	@touch $@

demo: $(READY)  ## the main job end to end on real parts
	$(BIN)/python scripts/demo.py

run: $(READY)  ## web server and workers, ready to click
	@$(BIN)/python scripts/run.py

test: $(READY)  ## every promise once; ARGS="-k deletion -x" for some
	$(BIN)/python -m pytest -n auto -m "not long" $(ARGS)

check: $(READY)  ## all that must pass before a change is merged; the long tests in quarters, by commit or QUARTER=2
	$(MAKE) --jobs=2 types lint docs
	$(MAKE) test ARGS='-m "" --quarter=$(QUARTER)'

types: $(READY)
	$(BIN)/mypy .

lint: $(READY)  ## style, import contracts, migrations, the API document, deploy settings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py spectacular --validate --fail-on-warn --file /dev/null
	scripts/check_deploy.sh

test-all: $(READY)  ## all tests, with all that are long, and their coverage
	$(BIN)/python -m pytest -n auto --cov --cov-report=term --cov-fail-under=90 $(ARGS)
	$(BIN)/python -m coverage report --include="client/*" --fail-under=95

docs: $(DOCS)  ## the documentation as a site in var/docs/; a broken link or anchor is an error
	.venv-docs/bin/sphinx-build -q -W -n --keep-going -j auto -c docs -b dirhtml -d var/doctrees . var/docs
	@echo 'Blocks of commands that no test runs, by reason:'
	@grep -rhoE '<!-- not run: [^>]+ -->' docs | sort | uniq -c | sort -rn

npm:  ## what package.json names, for tests in JavaScript and for `make typescript`
	@npm ls --depth=0 >/dev/null 2>&1 || npm install --no-package-lock --no-audit --no-fund --ignore-scripts

typescript: $(READY) npm  ## client/typescript with types of the API, as an npm package in var/typescript/; needs npm
	rm -rf $(TYPESCRIPT)
	mkdir -p $(dir $(TYPESCRIPT))
	cp -R client/typescript $(TYPESCRIPT)
	$(BIN)/python manage.py spectacular --format openapi-json --file $(TYPESCRIPT)/openapi.json
	version=$$($(BIN)/python -c 'from common.version import VERSION; print(VERSION)') && \
		cd $(TYPESCRIPT) && npm pkg set "version=$$version" && PATH="$(CURDIR)/node_modules/.bin:$$PATH" npm pack --silent

bench: $(READY)  ## how fast, against a floor; ARGS=--quick for a look, ARGS=--help for all else
	$(BIN)/python -m benchmarks $(ARGS)

fuzz: $(READY)  ## hostile input, and schemathesis over the whole API, for long; EXAMPLES=200 SEED=1 ARGS="-k cursors"
	FUZZ_EXAMPLES=$(or $(EXAMPLES),200) FUZZ_SEED=$(or $(SEED),1) $(BIN)/python -m pytest -n 2 --timeout 0 -m fuzz --hypothesis-seed=$(or $(SEED),1) $(ARGS)

stress: $(READY)  ## erasure and export against whatever meets them, for long; SECONDS=600 SEED=1 ARGS=--citus
	STRESS_SECONDS=$(or $(SECONDS),600) STRESS_SEED=$(or $(SEED),1) $(BIN)/python -m pytest -n 0 --timeout 0 tests/functional/test_stress.py $(ARGS)

faults: $(READY)  ## every fault while requests run, at a site of its own; ARGS="-k disk" for some, SEED=1
	FAULTS=all FAULTS_SEED=$(or $(SEED),1) $(BIN)/python -m pytest -n 0 --timeout 900 tests/faults $(ARGS)

drill: $(READY)  ## lose the database and restore it, in three ways; ARGS=--only=dump for one
	$(BIN)/python -m tests.drill $(ARGS)

soak: $(READY)  ## clients and faults side by side for long, then a look at everything; MINUTES=20 SEED=1, or SECONDS=60
	$(BIN)/python -m tests.faults.soak --minutes $(or $(MINUTES),20) $(if $(SECONDS),--seconds $(SECONDS)) --seed $(or $(SEED),1) $(ARGS)

citus: $(READY)  ## the promises on a distributed database; CITUS_URL=postgresql://..., ARGS="-k races" for some
	$(BIN)/python -m pytest -n 0 tests/citus
	$(BIN)/python -m pytest -n 3 --citus -m "not long" tests/conversations tests/compliance tests/functional $(ARGS)

screenshots: $(READY)  ## the pictures of the console's help into docs/images/; needs Chromium
	$(BIN)/python scripts/screenshots.py

lock: $(READY)  ## exact versions with hashes, from the ranges in pyproject.toml
	$(BIN)/uv pip compile -q --generate-hashes --no-strip-extras --python-version 3.11 --no-header pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-strip-extras --python-version 3.11 --no-header pyproject.toml --extra dev -o requirements-dev.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-strip-extras --python-version 3.11 --no-header --group docs -o requirements-docs.txt

release: $(READY)  ## version, changelog and tag, and the files of the release in var/release/; VERSION=0.2.0, ARGS=--dry-run
	@$(BIN)/python -m scripts.release $(VERSION) $(ARGS)

fmt: $(READY)
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

clean:  ## what can be made again; var/, the data of this copy, stays
	rm -rf .venv .venv-docs node_modules .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis staticfiles
	rm -f .coverage .coverage.*
	find . -name __pycache__ -not -path './var/*' -prune -exec rm -rf {} +
