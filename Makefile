# The identity registry's commands. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PHOTOS ?=
LFW ?=
TESTS ?= tests
WORKERS ?= 2
COVERED ?= tests/unit tests/contract tests/integration tests/e2e
LOAD_S ?= 15
IDENTITIES ?=
NAMELESS ?=
WEIGHTS ?= service/bundles/embedder/model.onnx
NAMELESS_FOLDER ?= .
PEOPLE_ENROLLED ?= 100000
COLLECTIONS ?= 100
MODEL ?= mobilefacenet-mine
CONFIG ?= configs/train.yaml
PROVENANCE ?= configs/provenance-own.yaml
PEOPLE = $(foreach source,$(IDENTITIES),--identities $(source))

.PHONY: help setup demo serve test coverage compose-test check train bench bench-gallery clean lock

help: ## this list
	@awk 'BEGIN {FS = ":.*## "; print "identity registry\n"} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; echo "  make demo PHOTOS=folder    with your own <name>/*.jpg"
	@echo '  make train IDENTITIES="a.zip b.zip" [WEIGHTS=mobilefacenet.onnx] [NAMELESS=c.zip] [MODEL=name]'
	@echo "  make test LFW=folder       also on different photos of one person (LFW's layout)"

setup: $(VENV)/.ready ## virtual environment with everything, system libraries included

$(VENV)/.ready: pyproject.toml requirements.lock tools/virtualenv.sh tools/extras.sh tools/system-libraries.sh
	@test -x $(RUN) || bash tools/virtualenv.sh $(PYTHON) $(VENV)
	@echo 'installing packages (about 8 GB with torch for CUDA; some minutes the first time)'
	@$(RUN) -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[all]'
	@bash tools/extras.sh $(RUN)
	@bash tools/system-libraries.sh $(RUN)
	@touch $@

demo: setup ## enrol, verify and find real people on an embedded Postgres, from nothing
	@$(RUN) -m service demo $(if $(PHOTOS),--photos "$(PHOTOS)")

serve: setup ## the API on http://127.0.0.1:8000, its documentation at /docs
	@exec $(RUN) -m service api

# One thread each for the models: the two processes share the cores.
test: setup ## every test, several files at once: WORKERS=
	@LFW="$(LFW)" OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(RUN) -m pytest --numprocesses $(WORKERS) --dist loadfile $(TESTS)

# Without the trainer's tests: where a thread's greenlets ended among them, the tracer of coverage hung CPython 3.11.
coverage: setup ## what of service/ its own tests run
	@rm -f .coverage .coverage.*
	@$(RUN) -m coverage run -m pytest $(COVERED)
	@$(RUN) -m coverage combine --quiet && $(RUN) -m coverage report

compose-test: setup ## docker compose for real: up, work, kill, recover, scale, down; LOAD_S= seconds of load
	@COMPOSE_TEST=1 LOAD_S=$(LOAD_S) $(RUN) -m pytest -s tests/compose

check: setup ## format, lint, types, direction of imports
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-cache

train: setup ## the shipped embedder (or another MobileFaceNet, WEIGHTS=) goes on with IDENTITIES= (folders or zips of <identity>/<canvas>)
	@test -n "$(IDENTITIES)" || { echo 'make train IDENTITIES="a.zip b.zip"'; exit 2; }
	@$(RUN) -m trainer train $(PEOPLE) --teacher $(WEIGHTS) --initial $(WEIGHTS) --output runs/$(MODEL)/run --work runs/$(MODEL)/data \
		--config $(CONFIG) $(if $(NAMELESS),--nameless $(NAMELESS) --nameless-folder $(NAMELESS_FOLDER))
	@$(RUN) -m trainer export --checkpoint runs/$(MODEL)/run/2-batch-hard/best.ckpt --model-id $(MODEL) --output runs/$(MODEL)/bundle \
		--provenance $(PROVENANCE)
	@$(RUN) -m trainer calibrate $(PEOPLE) --bundle runs/$(MODEL)/bundle --work runs/$(MODEL)/data --config $(CONFIG)

bench: setup ## what a request costs, next to its parts and to YuNet (if named by YUNET=)
	@$(RUN) -m tools.bench $(if $(YUNET),--yunet "$(YUNET)")

bench-gallery: setup ## 1:N search at size, next to numpy and FAISS; PEOPLE_ENROLLED= and COLLECTIONS= for more than 100,000 and 100
	@$(RUN) -m pip install --quiet --disable-pip-version-check faiss-cpu
	@$(RUN) -m tools.bench_gallery --people $(PEOPLE_ENROLLED) --collections $(COLLECTIONS)

lock: ## requirements.lock from what is installed, and the images' lock files with hashes
	@bash tools/lock.sh $(RUN)

clean: ## remove the environment and everything that was made here; enrolled people stay
	rm -rf $(VENV) runs demo-output gallery-report .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
