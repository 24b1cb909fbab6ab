# Wanda Lab. `make run` is all a fresh machine with Python 3.11 or newer needs.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip --disable-pip-version-check
WORKERS ?= 2

# What `quick` runs: hand-worked numbers, properties and tiny models, nothing that starts processes or a browser.
QUICK  := tests/maths tests/pruning tests/text tests/explain tests/test_face.py tests/test_house.py \
          tests/test_method_table.py tests/test_recipe.py tests/ui/test_language.py tests/ui/test_asked.py

# Stamps, so that nothing is installed twice; they lie in the environment and go with it.
MADE := $(VENV)/.made
APP  := $(VENV)/.app
DEV  := $(VENV)/.dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test quick families lint replay bench device-check soak safe safe-short audit browser clean FORCE

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: $(APP) ## Install what is missing, bring the built-in model, start the app
	@$(PY) -m wanda_core.model.builtin
	@exec $(PY) app.py

# What measures seconds or memory is marked `alone` and comes last, one test at a time.
test: lint browser ## Lint, then every test, so many files at once (WORKERS=2; each takes 4 GB)
	@$(PY) -m wanda_core.model.builtin
	@export WANDA_CHROMIUM="$$($(CHROMIUM))"; $(PY) -m pytest -m "not alone" -n $(WORKERS) --dist loadfile \
		&& $(PY) -m pytest -m alone $$(grep -rl --include='*.py' 'mark.alone' tests)

quick: lint ## Lint, and the tests that a change needs first: under a minute
	$(PY) -m pytest -m "not builtin and not browser" $(QUICK)

lint: $(DEV) ## ruff, mypy and the direction of imports
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-cache --no-logo

families: $(DEV) ## Every causal architecture of transformers, tiny: served whole, measured by everything or refused by name (a quarter of an hour)
	$(PY) -m pytest -m families

replay: $(APP) ## Run the built-in model by every stored recipe and write assets/replay.json, then the lesson's answers (half an hour)
	@$(PY) -m wanda_core.model.builtin
	$(PY) -m wanda_core.report.replay
	$(PY) -m wanda_core.report.piece
	$(PY) -m wanda_core.report.lesson.making

bench: $(DEV) browser ## Time, perplexity and memory against their targets (WIKITEXT=wiki.test.raw CALIBRATION=text)
	@$(PY) -m wanda_core.model.builtin
	$(PY) -m benchmarks.bench $(if $(WIKITEXT),--wikitext '$(WIKITEXT)') $(if $(CALIBRATION),--calibration '$(CALIBRATION)')

device-check: $(APP) ## Masks, seconds and 2:4 on this machine's GPU, eight minutes; out/device-check.pyz does it elsewhere
	@$(PY) -m benchmarks.device_pack out/device-check.pyz
	$(PY) out/device-check.pyz

soak: $(DEV) browser ## What takes minutes, random recipes for ten minutes (MINUTES=10), then a server's long day (ROUNDS=100): nothing may leak
	@$(PY) -m wanda_core.model.builtin
	@export WANDA_CHROMIUM="$$($(CHROMIUM))"; $(PY) -m pytest -m long
	$(PY) -m benchmarks.soak $(if $(MINUTES),--minutes $(MINUTES))
	$(PY) -m benchmarks.server_soak $(if $(ROUNDS),--rounds $(ROUNDS))

# What they measure is measured one test at a time.
safe: $(DEV) browser ## Every attack on the table of reliability, whole, its figures beside their targets (11 minutes on two quiet cores)
	@$(PY) -m wanda_core.model.builtin
	@export WANDA_SAFE=whole WANDA_CHROMIUM="$$($(CHROMIUM))"; $(PY) -m pytest -m safe tests/safe

safe-short: $(DEV) browser ## A short form of each, below 15 minutes
	@$(PY) -m wanda_core.model.builtin
	@export WANDA_CHROMIUM="$$($(CHROMIUM))"; $(PY) -m pytest -m safe tests/safe

audit: $(DEV) ## Known faults of the packages (pip-audit, where it can ask), and whether they keep to the floors
	@$(PY) -c 'import pip_audit' 2>/dev/null || $(PIP) install -q 'pip-audit>=2.9,<3' -c constraints.txt || true
	@cd tests && ../$(PY) -m safe.audit

clean: ## Remove the environment and caches; the built-in model stays in the user's cache folder
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis .gradio
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Browser tests take Chromium from WANDA_CHROMIUM, else from the PATH, else Playwright's own. The shell without a window
# comes first: it spends half the processor's time on a page.
ON_PATH  := command -v chromium-headless-shell || command -v chromium || command -v google-chrome
CHROMIUM := printenv WANDA_CHROMIUM || $(ON_PATH) || true

browser: $(DEV)
	@{ printenv WANDA_CHROMIUM || $(ON_PATH); } >/dev/null || $(PY) -m playwright install chromium \
		|| echo "No Chromium: install one or set WANDA_CHROMIUM to its path; what needs a browser is left out."

# An environment whose Python has gone (an upgrade, a moved folder) is made again.
$(MADE): $(if $(shell $(PY) -c 'print(1)' 2>/dev/null),,FORCE)
	@command -v '$(PYTHON)' >/dev/null || { \
		echo "Wanda Lab needs Python 3.11 or newer and '$(PYTHON)' was not found: install it, or name one with 'make PYTHON=python3.12 …'."; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Wanda Lab needs Python 3.11 or newer and '$(PYTHON)' is $$('$(PYTHON)' -V 2>&1): name a newer one with 'make PYTHON=python3.12 …'."; exit 1; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "Python's venv module is missing: install it (Debian, Ubuntu: sudo apt install python3-venv) and run make again."; exit 1; }
	@'$(PYTHON)' -m venv --clear $(VENV)
	@touch $@

$(APP): requirements.txt constraints.txt $(MADE)
	@echo "Installing what the app needs; the first time this takes some minutes."
	@$(PIP) install -r requirements.txt -c constraints.txt
	@touch $@

# After the app's packages, never beside them: two pips in one environment spoil it.
$(DEV): requirements-dev.txt constraints.txt $(APP)
	@$(PIP) install -r requirements-dev.txt -c constraints.txt
	@touch $@

FORCE:
