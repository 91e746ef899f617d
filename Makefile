# SPDX-License-Identifier: Apache-2.0
# make test and make demo need no preparation: they set up .venv first.
# PYTHON=python3.12 chooses the Python, SEED=3 another scene for the demo.

SEED ?= 0
OUT ?= out/demo
MINUTES ?= 30
PYTEST_ARGS ?=
GRASP_SEEDS ?= 104 105 106 107 108 109 110 111 112 113 114 115
RIVAL ?= .venv-nerfstudio/bin/python
DATA ?=
WORLD ?= corridor
TABLES ?= 12
ROOMS ?= 6
ROUTES ?=
TORCH ?=
export PYTHON

.PHONY: help setup demo test coverage eval eval-quick grasp bench building gpu kill-test soak lint colcon jazzy package routes \
	docs docs-check clean

help:
	@echo 'make demo [SEED=n]  simulated camera, mapper and queries as ROS 2 processes; see $(OUT)'
	@echo 'make test           ruff, mypy and all tests'
	@echo 'make coverage       make test with the lines that it reaches, half as long again'
	@echo 'make eval           tables of localization, existence, extents; out/eval, more than an hour'
	@echo 'make eval-quick     the same on one small layout, a minute'
	@echo 'make grasp          maps simulated layouts, lifts everything in MuJoCo; out/bench, hours'
	@echo 'make bench          table of speed; out/bench/speed.json, about 12 minutes'
	@echo 'make building       maps a hall, or WORLD=apartment; out/bench/building.json'
	@echo 'make gpu            all that needs an NVIDIA GPU, at most 9 minutes; out/bench/gpu.json'
	@echo 'make kill-test      kills the nodes 50 times at random moments; out/bench/kill.json'
	@echo 'make soak           mapper and queries for MINUTES=$(MINUTES); out/bench/soak.json'
	@echo 'make setup          only prepare .venv'
	@echo 'make colcon         build as a colcon workspace, test the interfaces and lint there'
	@echo 'make jazzy          the interfaces and node tests on the ROS 2 Jazzy wheels'
	@echo 'make package        pip install . into throw-away places, with and without interfaces'
	@echo 'make routes         each way of the README to install it, tried in an environment of its own'
	@echo 'make docs           the documentation as a site; out/docs/site'
	@echo 'make docs-check     runs the first own map of README.md, parses all other commands, checks links'
	@echo 'make clean          remove builds, keep .venv'

setup:
	@bash scripts/setup.sh

demo:
	@bash scripts/run lerf_ros demo --seed $(SEED) --out $(OUT)

test:
	@bash scripts/run bash scripts/check.sh $(PYTEST_ARGS)

coverage:
	@COVERAGE=1 bash scripts/run bash scripts/check.sh

eval:
	@bash scripts/run python bench/evaluate.py --encoders conse oracle --jobs 2 --out out/eval

# A test runs the same.
eval-quick:
	@bash scripts/run python bench/evaluate.py --effort quick --encoders oracle --out out/eval-quick

# Maps what is missing in out/bench/maps, which takes most of the time.
grasp:
	@LERF_ROS_EXTRAS='ros openclip offline sim eval view physics dev' bash scripts/run \
		python bench/grasp/run.py --encoder oracle --seeds $(GRASP_SEEDS)

# RIVAL is the Python of an environment with nerfstudio (bench/README.md), DATA a nerfstudio folder;
# without them the rows that need them are left out.
bench:
	@bash scripts/run python bench/speed.py --rival $(RIVAL) $(if $(DATA),--data $(DATA))

building:
	@bash scripts/run python bench/building.py --world $(WORLD) --tables $(TABLES) --rooms $(ROOMS)

gpu:
	@bash scripts/run python bench/gpu.py

kill-test:
	@bash scripts/run python bench/kill_test.py --out out/bench/kill.json

soak:
	@bash scripts/run python bench/soak.py --minutes $(MINUTES) --out out/bench/soak.json

lint:
	@bash scripts/run ruff check .

colcon:
	@bash scripts/run bash scripts/colcon.sh

jazzy:
	@bash scripts/jazzy.sh

package:
	@bash scripts/run bash scripts/package.sh

# ROUTES="core ros" names some of them, TORCH=2.13.0 a version where the newest is too large.
routes:
	@bash scripts/run python scripts/routes.py $(ROUTES) $(if $(TORCH),--torch $(TORCH))

docs:
	@bash scripts/docs.sh

docs-check:
	@bash scripts/run python scripts/docs_check.py --run
	@bash scripts/run python scripts/docs_site.py out/docs/source

clean:
	rm -rf build install log lerf_ros.egg-info .mypy_cache .ruff_cache .pytest_cache
