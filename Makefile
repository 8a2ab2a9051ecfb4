# Everything a clone needs: `make demo`, `make test`. Needs Python 3.11 to 3.13 and make.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& command -v $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := $(shell sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements.lock)
DEMO_STORE ?= demo-store
READY := $(VENV)/.ready

unexport PYTHONDONTWRITEBYTECODE # each worker would compile TensorFlow anew
export UV_NO_PROGRESS = 1

.PHONY: help setup demo test lint types unit docs diagram lock bench bench-peers chaos test-cluster clean

help:
	@echo "make demo    install into $(VENV) and run a small grid over Ray on this machine"
	@echo "make test    install, then lint, types and every test"
	@echo "make lint    ruff alone (make types: mypy)"
	@echo "make docs    the documentation as a site, in docs/_build; a broken link is an error"
	@echo "make diagram draw docs/architecture.svg again from the imports"
	@echo "make bench   what is fast, each beside what a user would pick instead; JSON"
	@echo "make bench-peers  attacks beside those of others on PyTorch, in an environment of its own"
	@echo "make chaos   harm a small cluster at random for 25 rounds; writes docs/chaos.md"
	@echo "make test-cluster  ray up, submit, job submit, Slurm and NFS on machines made here (root)"
	@echo "make lock    resolve requirements.lock anew from pyproject.toml"

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: expected Python 3.11, 3.12 or 3.13 on the PATH," \
		"got none; name one by make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@echo "setting up $(VENV) with $(PYTHON) (about 4 GB, a minute or two)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
	@$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --require-hashes --compile-bytecode \
		-r requirements.lock
	@$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --no-build-isolation --no-deps -e .
	@touch $@

demo: $(READY)
	@$(BIN)/prunegrid run grids/demo.yaml --store $(DEMO_STORE)

test: $(READY) lint types unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# A crashed worker ends the tests: xdist may wait for ever for what a replaced one had left.
unit: $(READY)
	$(BIN)/pytest -n 3 --no-loadscope-reorder --max-worker-restart 0

docs: $(READY)
	$(BIN)/sphinx-build -q -W --keep-going -n -c docs -d docs/_build/.doctrees . docs/_build
	@echo "docs/_build/index.html"

diagram: $(READY)
	$(BIN)/python -m tools.diagram

bench: $(READY)
	$(BIN)/python -m tests.bench.attacks
	$(BIN)/python -m tests.bench.strength
	$(BIN)/python -m tests.bench.scheduler
	$(BIN)/python -m tests.bench.inference
	$(BIN)/python -m tests.bench.pipeline
	$(BIN)/python -m tests.bench.ray_rate
	$(BIN)/python -m tests.bench.dashboard
	$(BIN)/python -m tests.bench.store

PEERS := .venv-peers
PEERS_FILE := tests/bench/peers-requirements.txt

bench-peers: $(READY)
	@test -f $(PEERS)/.ready || { echo "setting up $(PEERS) (about 5 GB)" && $(PYTHON) -m venv $(PEERS) \
		&& $(PEERS)/bin/pip install --quiet "setuptools<80" wheel \
		&& $(PEERS)/bin/pip install --quiet --no-build-isolation -r $(PEERS_FILE) \
		&& touch $(PEERS)/.ready; } || { echo "bench-peers: skipped, $(PEERS_FILE) can't be installed here"; exit 0; }; \
	test ! -f $(PEERS)/.ready || $(BIN)/python -m tests.bench.peers --python $(PEERS)/bin/python \
		$(PEERS_OPTIONS) --docs docs/attacks.md

chaos: $(READY)
	$(BIN)/python -m tests.chaos --rounds 25 --out docs/chaos.md

test-cluster: $(READY)
	$(BIN)/python -m tests.cluster --out docs/cluster-transcript.txt
	$(BIN)/python -m tests.cluster --slurm --out docs/slurm-transcript.txt \
		--select seed=0,rate=1,4,method=magnitude-global-unstructured,random-local-unstructured,attack=target_race_linf,target_race_l2
	$(BIN)/python -m tests.cluster.nfs

lock:
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra mnist5k --extra dev \
		--generate-hashes --no-header --no-emit-package prunegrid pyproject.toml \
		-o requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
