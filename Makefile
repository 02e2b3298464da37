# `make` prints this list. Every target sets up what it needs.

SHELL := /bin/bash
PYTHON := .venv/bin/python
VAR := $(or $(RANKING_VAR),var)
# Tests wait as often as they compute: four at once, of one thread each, keep two cores busy.
# `python -m pytest` alone runs one after the other. Processes share what the first has compiled.
SIDE_BY_SIDE := -n 4 --dist loadgroup --no-loadscope-reorder
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(PYTHON) -m pytest

.PHONY: help install demo test test-fast check audit up down clean lock docs bench-features bench-train bench-quality bench-models bench-growth bench-scaling bench-export bench-stream bench-gate bench-serve gpu-check images image-base images-test cluster-test drill-train drill-hosts drill-lake drill-life fuzz-serve soak

help:               ## print what each target does
	@grep -hE '^[a-z-]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1|/' | awk -F'|' '{printf "  make %-16s %s\n", $$1, $$2}'

# Asked for another accelerator than .venv was made for, it is made anew.
ifneq ($(filter-out $(shell cat .venv/.accelerator 2>/dev/null),$(ACCELERATOR)),)
.PHONY: .venv/.installed
endif
.venv/.installed: $(wildcard infra/requirements/*.txt) infra/local/install.sh pyproject.toml
	@ACCELERATOR=$(ACCELERATOR) bash infra/local/install.sh

install: .venv/.installed ## set up .venv and check Java, seconds when done already; ACCELERATOR=cuda for a GPU

demo: install       ## the main job, day by day through Airflow, to a ranked answer: MovieLens-100k, or SCHEMA=shop.yaml LANDING=folder
	@$(PYTHON) -m infra.demo.demo $(if $(SCHEMA),--schema='$(SCHEMA)') $(if $(LANDING),--landing='$(LANDING)')

test: install       ## the whole test suite, a scheduled day included
	@$(PYTEST) $(SIDE_BY_SIDE)

test-fast: install  ## what needs neither Spark nor a process of its own
	@$(PYTEST) $(SIDE_BY_SIDE) -m "not (spark or distributed or process or gpu or object_store)"

.PHONY: fuzz-serve
fuzz-serve: install ## minutes of made-up calls to the endpoint: by its OpenAPI, and malformed ones
	@RANKING_FUZZ_SECONDS=300 $(PYTHON) -m pytest tests/serving/transport/test_fuzz.py tests/serving/protocol/test_many_malformed.py

.PHONY: tutorial
tutorial: install   ## docs/your-own-log.md as it is written, from a CSV file to the answer of curl; six minutes
	@$(PYTHON) -m infra.drills.tutorial

check: install      ## ruff, mypy strict, import contracts
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy
	@.venv/bin/lint-imports

audit: install      ## look the pinned packages up among known vulnerabilities; needs the internet
	@$(PYTHON) -m infra.local.audit

up: install         ## Airflow on 8080, the endpoint on 8081 (REST) and 8082 (gRPC), the push of users, until Ctrl-C; SCHEMAS=folder: your data sets
	@$(PYTHON) -m infra.local.stack $(if $(SCHEMAS),--schemas='$(SCHEMAS)') up

down: install       ## end a stack that runs elsewhere
	@$(PYTHON) -m infra.local.stack down

# The site is built from a copy of the pages: MkDocs takes no folder that its output is in.
docs: install       ## write the generated pages, alerts and dashboards, and the site of all pages into var/docs/site
	@$(PYTHON) -m features document --output docs/features.md
	@$(PYTHON) -m features schema-json --output features/datasets/schema.json
	@$(PYTHON) -m infra.local.configuration
	@$(PYTHON) -m infra.objectives
	@rm -rf $(VAR)/docs && mkdir -p $(VAR)/docs/pages
	@git ls-files -z --cached --others --exclude-standard '*.md' docs LICENSE NOTICE | xargs -0 cp --parents -t $(VAR)/docs/pages
	@cp mkdocs.yml $(VAR)/docs/
	@NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --config-file $(VAR)/docs/mkdocs.yml
	@echo "the site: $(VAR)/docs/site/index.html"

bench-features: install ## a day's feature jobs: growth, history, cores, skew, against DuckDB and Feast
	@$(PYTHON) -m infra.bench.features

bench-train: install    ## training speed as a share of the machine's matrix product
	@$(PYTHON) -m infra.bench.training.suites --suite speed

bench-quality: install  ## MovieLens-100k rolled daily, and what a daily run may do there, on MovieLens-1M and on a shop; DATASETS="movielens-100k": this
	@$(PYTHON) -m infra.bench.training.suites --suite quality $(if $(DATASETS),--datasets $(DATASETS))

bench-models: install   ## eight rankers and LightGBM on six logs, equal search, hours; goes on where it was ended; DATASETS=...: some
	@$(PYTHON) -m infra.bench.training.rankers $(if $(DATASETS),--datasets $(DATASETS))

bench-growth: install   ## what growing saves, in width and depth; SIZE=small: minutes, to see that it runs
	@$(PYTHON) -m infra.bench.training.growth $(if $(SIZE),--size $(SIZE))

bench-scaling: install  ## a scaling law from own runs, on data whose best loss is known
	@$(PYTHON) -m infra.bench.training.scaling

bench-export: install   ## scoring a request: eager, native, int8 and int4 tables, compared with the limit
	@$(PYTHON) -m infra.bench.training.suites --suite export

bench-stream: install   ## memory of a training on a day of 2 and of 20 million rows
	@$(PYTHON) -m infra.bench.training.memory

bench-gate: install     ## memory and time of the gate on a holdout of a million users
	@$(PYTHON) -m infra.bench.training.gate

bench-serve: install    ## the endpoint under load, compared with its parts alone
	@$(PYTHON) -m infra.bench.serving.bench

gpu-check: install      ## ten minutes on one GPU: correct, how fast, memory, resume, export; JSON and a page
	@$(PYTHON) -m infra.bench.training.gpu_check

drill-train: install    ## kill -9 a training at 20 random moments, and compare it with an undisturbed one
	@$(PYTHON) -m infra.drills.kill_training

drill-hosts: install    ## a training over two hosts (network namespaces): kill one, cut the link, compare the bits
	@$(PYTHON) -m infra.drills.hosts

cluster-test: install   ## a day on Postgres, Redis, S3, Spark's workers and pods that are other users, against the same day on a disk
	@PYTHONPATH=tests $(PYTHON) -m support.cluster

drill-lake: install     ## kill -9 a writer of the lake at 30 random moments, on a disk and on S3, under a reader
	@$(PYTHON) -m infra.drills.kill_lake

drill-life: install     ## sixty days of the whole stack with thirty faults, against the same days without; DAYS=10 FAULTS=8
	@$(PYTHON) -m infra.drills.life $(if $(DAYS),--days $(DAYS)) $(if $(FAULTS),--faults $(FAULTS))

soak: install       ## ten minutes of load with swaps and a store that restarts: nothing lost, flat memory
	@$(PYTHON) -m infra.drills.soak

images: install     ## build the images by buildah; IMAGES="serve train": these, BASE=…: on another Debian 12
	@$(PYTHON) -m infra.images.build $(IMAGES) $(if $(BASE),--base=$(BASE))

image-base: install ## make the images' base out of Debian's packages, where no registry is reached
	@$(PYTHON) -m infra.images.build --make-base $(if $(BASE),--base=$(BASE))

images-test: install ## run in each image what it is for, and look at its size; IMAGES="serve": these
	@$(PYTHON) -m infra.images.trial $(IMAGES)

lock: install       ## resolve requirements.in into requirements.txt (CPU) and requirements-cuda.txt; the images' locks
	@bash infra/local/install.sh lock

clean:              ## remove .venv and all local state (var/)
	rm -rf .venv $(VAR)
