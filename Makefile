# `make demo` and `make test` each do all their own set-up; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

BIN := .venv/bin
KILLS ?= 50
PARTS ?= 1150
SECONDS ?= 60
SEED ?=
DATA ?=
CLOUD ?=
OUT ?=
ONLY ?=
PEEL_MINUTES ?=
PHOTOGRAPHS ?=
BANK ?=
DEVICE ?= cpu
MINUTES ?=
# Folders are listed too, so that a removed file rebuilds the package.
SOURCES := $(shell find inspector reports pipelines -not -name __pycache__ -not -name '*.pyc') \
	pyproject.toml README.md LICENSE

.PHONY: help venv demo test lint bench peer-bench line-trial crash-trial cloud-trial image-trial accuracy painted names worst-cases twin-trial gallery real-sets train schema lock clean debian-packages

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1 \t/p' $(MAKEFILE_LIST) | expand -t 22

venv: .venv/.package-installed ## create .venv and install the built package into it

.venv/.lock-installed: requirements-dev.lock tools/create_venv.sh
	@tools/create_venv.sh

.venv/.package-installed: .venv/.lock-installed tools/install_package.sh $(SOURCES)
	@tools/install_package.sh

debian-packages:
	@tools/install_debian_packages.sh

demo: venv ## CLOUD=1: the whole line on this machine, ends with demo-out/report.html
	$(BIN)/inspector demo $(if $(CLOUD),--cloud)

# The safe path keeps the checkout out of sys.path: what is tested is the package built from it.
test: venv debian-packages lint ## lint, then every test
	@tools/run_tests.sh $(BIN)/python

lint: venv ## style, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tools
	$(BIN)/lint-imports

bench: venv ## throughput and latency on this machine
	$(BIN)/inspector bench

peer-bench: venv ## one 4K frame here and with the nets of the field, as ratios (some minutes, 10 GB of memory)
	$(BIN)/python -m tools.peer_bench

line-trial: venv debian-packages ## SECONDS=60: the whole service at 4K: evidence latency, memory, delivery rate
	$(BIN)/python -m tests.line_trial --seconds $(SECONDS)

crash-trial: venv debian-packages ## KILLS=50 SEED=n: kill -9 under load, then count what was lost
	$(BIN)/python -m tests.crash.trial --kills $(KILLS) $(if $(SEED),--seed $(SEED))

cloud-trial: venv debian-packages ## PARTS=1150 SEED=n DATA=folder: a cloud that fails in every way, and what policies cost
	$(BIN)/python -m tests.cloud_trial --parts $(PARTS) $(if $(SEED),--seed $(SEED)) $(if $(DATA),--data "$(DATA)")

image-trial: venv ## the Dockerfile's steps in clean virtual environments: packages, commands, libraries
	PYTHONSAFEPATH=1 $(BIN)/pytest -rfEs -m image

accuracy: venv ## DATA=folder: fit and evaluate every data set in it, print a table
	@test -n "$(DATA)" || { echo "say which: make accuracy DATA=folder-of-data-sets" >&2; exit 2; }
	$(BIN)/python tools/measure_accuracy.py "$(DATA)"

painted: venv ## DATA=folder: how many painted defects of each family the default recipe of each data set finds
	@test -n "$(DATA)" || { echo "say which: make painted DATA=folder-of-data-sets" >&2; exit 2; }
	$(BIN)/python tools/measure_painted.py "$(DATA)"

names: venv ## DATA=data-set: how well few examples of each defect teach its name (one data set with masks)
	@test -n "$(DATA)" || { echo "say which: make names DATA=data-set" >&2; exit 2; }
	$(BIN)/python tools/measure_names.py "$(DATA)"

worst-cases: venv ## DATA=folder OUT=folder: the worst misses and false alarms of each data set as pictures
	@test -n "$(DATA)" -a -n "$(OUT)" || { echo "say which: make worst-cases DATA=folder-of-data-sets OUT=folder" >&2; exit 2; }
	$(BIN)/python tools/worst_cases.py "$(DATA)" "$(OUT)"

twin-trial: venv ## DATA=folder OUT=folder ONLY=psnr,… PEEL_MINUTES=5: what the twin must reach, pass or miss of each criterion
	@test -n "$(DATA)" -a -n "$(OUT)" || { echo "say which: make twin-trial DATA=folder-of-data-sets OUT=folder" >&2; exit 2; }
	$(BIN)/python -m tools.twin_trial "$(DATA)" "$(OUT)" $(if $(ONLY),--only $(ONLY)) $(if $(PEEL_MINUTES),--peel-minutes $(PEEL_MINUTES))

gallery: venv ## DATA=folder OUT=folder: twins of real images by every method at 100 % zoom, one page
	@test -n "$(DATA)" -a -n "$(OUT)" || { echo "say which: make gallery DATA=folder-of-data-sets OUT=folder" >&2; exit 2; }
	$(BIN)/python -m tools.gallery "$(DATA)" "$(OUT)"

real-sets: venv debian-packages ## DATA=folder: fit, evaluate, inspect and a running folder camera, per data set
	@test -n "$(DATA)" || { echo "say which: make real-sets DATA=folder-of-data-sets" >&2; exit 2; }
	$(BIN)/python -m tests.real_sets_trial "$(DATA)"

train: venv ## PHOTOGRAPHS=folder BANK=folder OUT=folder [MINUTES=n DEVICE=cuda]: the repair net, to what ships
	@test -n "$(PHOTOGRAPHS)" -a -n "$(BANK)" -a -n "$(OUT)" || { echo "say which: make train PHOTOGRAPHS=folder-of-data-sets BANK=rendered-bank OUT=folder" >&2; exit 2; }
	tools/train_repair.sh "$(PHOTOGRAPHS)" "$(BANK)" "$(OUT)" "$(DEVICE)" "$(MINUTES)"

schema: venv ## write the JSON Schemas, docs/configuration.md, docs/commands.md and README's file map from the code
	$(BIN)/python tools/write_config_reference.py
	$(BIN)/python tools/write_command_reference.py
	$(BIN)/python -c 'import pathlib, inspector.mqtt.schema_files as s; s.write_schema_files(pathlib.Path("inspector/mqtt/schemas"))'
	$(BIN)/python tools/write_file_map.py

lock: venv ## resolve requirements*.lock again
	@tools/lock_requirements.sh

clean: ## remove what make made; inspector-data stays
	rm -rf .venv build dist demo-out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
