# The identity registry's commands. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
SERVE_VENV := .venv-serve
RUN := $(VENV)/bin/python
TRAINER := $(VENV)/bin/identity-trainer
PHOTOS ?=
LFW ?=
MODELS ?=
TESTS ?= tests
WORKERS ?= 2
COVERED ?= tests/unit tests/contract tests/integration tests/e2e
LOAD_S ?= 15
SEED ?= 1
REQUESTS ?= 2000
PICTURES ?= 20000
MINUTES ?=
IDENTITIES ?=
UNLABELLED ?=
UNLABELLED_FOLDER ?= .
WEIGHTS ?= service/bundles/embedder
TEACHERS ?= $(patsubst random,service/bundles/embedder-permissive,$(WEIGHTS))
ENROLLED ?= 100000
BUNDLES ?=
COLLECTIONS ?= 100
KILLS ?= 100
DATABASE ?= both
MODEL ?= my-embedder
CONFIG ?= configs/train$(if $(filter random,$(WEIGHTS)),-from-random).yaml
PROVENANCE ?= configs/provenance-own.yaml
SOURCES = $(foreach source,$(IDENTITIES),--identities $(source))
INSTALLED_FROM := pyproject.toml clients/python/pyproject.toml tools/environment.sh tools/virtualenv.sh

.PHONY: help demo serve studio setup test coverage compose-test fuzz chaos soak check docs train bench bench-gallery lock space clean

help: ## list the commands
	@echo 'identity registry'; echo
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; echo "  make demo PHOTOS=folder    use your own pictures: folder/<name>/*.jpg"
	@echo '  make train IDENTITIES="a.zip b.zip" [WEIGHTS=bundle|random] [TEACHERS=bundles] [UNLABELLED=c.zip] [MODEL=name]'
	@echo "  make test LFW=folder       test also with different photos of each person (layout of LFW)"
	@echo "  make test MODELS=folder    test also imported models: YuNet, SFace, SCRFD, MobileFaceNet"

$(SERVE_VENV)/.ready: requirements/serve.lock requirements/pictures.lock $(INSTALLED_FROM)
	@bash tools/environment.sh $(PYTHON) $(SERVE_VENV) serve pictures
	@touch $@

# The studio's packages contain those of `make serve`. They are installed again when those change.
$(SERVE_VENV)/.studio: $(SERVE_VENV)/.ready requirements/studio.lock
	@bash tools/environment.sh $(PYTHON) $(SERVE_VENV) studio pictures
	@touch $@

$(VENV)/.ready: requirements/dev.lock requirements/trainer-tools.lock $(INSTALLED_FROM)
	@echo 'The full environment takes about 8 GB, most of it PyTorch with CUDA, and some minutes.'
	@bash tools/environment.sh $(PYTHON) $(VENV) dev trainer-tools
	@touch $@

demo: $(SERVE_VENV)/.ready ## enrol, verify and search real people on an embedded PostgreSQL
	@$(SERVE_VENV)/bin/identity-registry demo $(if $(PHOTOS),--photos "$(PHOTOS)")

serve: $(SERVE_VENV)/.ready ## serve the API at http://127.0.0.1:8000, with its documentation at /docs
	@exec $(SERVE_VENV)/bin/identity-registry serve

studio: $(SERVE_VENV)/.studio ## serve the API with a web interface at http://127.0.0.1:8000/studio
	@REGISTRY_STUDIO__MOUNTED=true exec $(SERVE_VENV)/bin/identity-registry serve

setup: $(VENV)/.ready ## install the full environment in .venv: tests, trainer, documentation

# One thread per model: two test processes share the cores.
test: setup ## run all tests; WORKERS= processes
	@LFW="$(LFW)" MODELS="$(MODELS)" OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive \
		$(RUN) -m pytest --numprocesses $(WORKERS) --dist loadfile $(TESTS)

# COVERED excludes tests/trainer: with coverage's tracer, CPython 3.11 hangs there when a thread with greenlets ends.
coverage: setup ## measure which lines of service/ its tests run
	@rm -f .coverage .coverage.*
	@$(RUN) -m coverage run -m pytest $(COVERED)
	@$(RUN) -m coverage combine --quiet && $(RUN) -m coverage report

compose-test: setup ## test docker compose: start, kill, recover, scale, stop; LOAD_S= seconds of load
	@COMPOSE_TEST=1 LOAD_S=$(LOAD_S) $(RUN) -m pytest -s tests/compose

fuzz: setup ## try to make the service fail with generated input; SEED=, REQUESTS=, PICTURES=, MINUTES=
	@$(RUN) -m tools.fuzz --seed $(SEED) --requests $(REQUESTS) --pictures $(PICTURES) \
		$(if $(MINUTES),--minutes $(MINUTES))

# Vulture reports fields that libraries set by name as unused, so its reports of variables and attributes are ignored.
check: setup ## check format, lint, types, imports, spelling, dead code, dependencies, documentation
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-cache
	@$(VENV)/bin/codespell
	@! $(VENV)/bin/vulture | grep -vE 'unused (variable|attribute)'
	@$(VENV)/bin/deptry .
	@$(VENV)/bin/deptry --config clients/python/pyproject.toml clients/python/src
	@$(MAKE) --no-print-directory docs

docs: setup ## build the documentation into site/; warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

train: setup ## train an embedder with IDENTITIES= (folders or zips of <identity>/<crop>), from WEIGHTS=
	@test -n "$(IDENTITIES)" || { echo 'make train IDENTITIES="a.zip b.zip"'; exit 2; }
	@$(TRAINER) train $(SOURCES) $(foreach teacher,$(TEACHERS),--teacher $(teacher)) --config $(CONFIG) \
		$(if $(filter-out random,$(WEIGHTS)),--initial $(WEIGHTS)) \
		--output runs/$(MODEL)/run --work runs/$(MODEL)/data \
		$(if $(UNLABELLED),--unlabelled $(UNLABELLED) --unlabelled-folder $(UNLABELLED_FOLDER))
	@$(TRAINER) export --checkpoint runs/$(MODEL)/run --model-id $(MODEL) \
		--output runs/$(MODEL)/bundle --provenance $(PROVENANCE)
	@$(TRAINER) calibrate $(SOURCES) --bundle runs/$(MODEL)/bundle --work runs/$(MODEL)/data

bench: setup ## measure requests and their parts; YUNET= MOBILEFACENET= SCRFD= (files) add peers, BUNDLES= folders, PHOTOS= a folder
	@$(RUN) -m tools.bench
	@$(RUN) -m tools.bench_requests
	@$(RUN) -m tools.bench_http $(if $(PHOTOS),--photos "$(PHOTOS)")
ifneq ($(and $(YUNET),$(MOBILEFACENET)),)
	@$(RUN) -m tools.bench_peers --yunet "$(YUNET)" --mobilefacenet "$(MOBILEFACENET)" \
	  $(if $(SCRFD),--scrfd "$(SCRFD)") $(if $(PHOTOS),--photos "$(PHOTOS)")
endif
ifneq ($(BUNDLES),)
	@$(RUN) -m tools.bench_bundles $(BUNDLES) $(if $(PHOTOS),--photos "$(PHOTOS)")
endif

bench-gallery: setup ## measure 1:N search next to NumPy and FAISS; ENROLLED= identities, COLLECTIONS=
	@$(RUN) -m tools.bench_gallery --people $(ENROLLED) --collections $(COLLECTIONS)

chaos: setup ## kill processes under load and check that no acknowledged effect is lost; KILLS=, SEED=, DATABASE=
	@$(RUN) -m tools.chaos --database $(DATABASE) --kills $(KILLS) $(if $(SEED),--seed $(SEED))

soak: setup ## measure the growth of memory at 80 % of the capacity; MINUTES=
	@$(RUN) -m tools.soak $(if $(MINUTES),--minutes $(MINUTES))

lock: setup ## compile the lock files from pyproject.toml; UPGRADE=1 takes the newest versions
	@bash tools/lock.sh $(RUN) $(if $(UPGRADE),--upgrade)

space: ## copy what a Hugging Face Space needs to TARGET=
	@bash deploy/space/prepare.sh "$(TARGET)"

clean: ## delete the environments and all generated files; enrolled identities are kept
	rm -rf $(VENV) $(SERVE_VENV) runs site demo-output gallery-report
	rm -rf .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
