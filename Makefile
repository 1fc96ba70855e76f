# Two commands matter: `make up` and `make test`. Both make .venv first; that costs nothing the second time.

# The Python that .venv was made with stays: another one would make it anew, below a running stack.
PYTHON ?= $(shell made=$$(.venv/bin/python -c 'import sys; print(sys._base_executable)' 2>/dev/null); \
	for python in $${made:+"$$made"} python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& { echo "$$python"; exit; }; done; echo python3)
BIN := .venv/bin
# Test processes, each with servers of its own (1.5 GiB); a file stays in one. One more than two cores, as they
# wait for servers a sixth of their time. WORKERS=0 for --pdb.
WORKERS ?= 3
# In the order of their names: long files, of few tests, come first, and the short ones fill the end.
AT_ONCE = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help install up down status test test-faults lint bench docs lock lock-opensearch

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

install: ## .venv with the locked dependencies
	@$(PYTHON) bilten_orchestration/local/install.py

up: install ## start everything, with demo data and the last 30 days of metrics (ARGS="--no-demo")
	@$(BIN)/bilten up $(ARGS)

down: install ## stop what `up` started; data stay
	@$(BIN)/bilten down

status: install ## what runs, and whether it answers
	@$(BIN)/bilten status

test: install ## everything but the long fault matrix, on servers of its own (ARGS="-k sync")
	@$(BIN)/python -m pytest $(AT_ONCE) $(ARGS)

test-faults: install ## the long fault matrix: real kills
	@$(BIN)/python -m pytest -m faults $(AT_ONCE) $(ARGS)

lint: ## ruff, mypy, sqlfluff
	@$(PYTHON) bilten_orchestration/local/install.py lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --disable-progress-bar sql dbt_project/models

bench: install ## the speeds in docs/benchmarks.md
	@$(BIN)/python -m bench $(ARGS)

docs: install ## docs/settings.md and the list of series from the code, and dbt's own documentation
	@$(BIN)/python -m bilten_orchestration.settings.reference > docs/settings.md
	@$(BIN)/python -m bilten_orchestration.observability.exporter.reference > docs/metrics-of-the-platform.md
	@eval "$$($(BIN)/bilten env)" && cd dbt_project && ../$(BIN)/dbt docs generate --target-path ../.bilten/dbt/docs

lock: install ## new lock files from pyproject.toml
	printf 'setuptools>=75\nuv\n' | $(BIN)/uv pip compile pyproject.toml - --extra test $(LOCK) -o requirements.lock
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["lint"], sep="\n")' \
		| $(BIN)/uv pip compile - --constraint requirements.lock $(LOCK) -o requirements-lint.lock

lock-opensearch: install ## the jars of the embedded OpenSearch, after its version changed
	$(BIN)/python -m bilten_orchestration.local.opensearch.locking

LOCK := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet --upgrade
