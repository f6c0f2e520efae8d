# make demo   sets up and runs the whole job on drawn images (DATA=FOLDER for your own)
# make test   sets up and runs the fast tests
# TORCH_INDEX=URL takes the torch pair from another package index (for example a CPU-only one).
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow check format clean browser

demo: $(STAMP)
	$(RUN) cli.py demo $(if $(DATA),--data "$(DATA)")

test: $(STAMP) browser
	$(RUN) -m pytest -m "not slow" -q

# Reports are tested in a real browser. Where it is missing and cannot be installed, those tests skip.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
	    || { [ "$$(id -u)" = 0 ] && apt-get -qq update \
	         && DEBIAN_FRONTEND=noninteractive \
	            apt-get -qq install -y --no-install-recommends chromium >/dev/null; } \
	    || echo "chromium cannot be installed: the tests of pages are skipped"

test-slow: $(STAMP)
	$(RUN) -m pytest -m slow -q

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(STAMP)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q --disable-pip-version-check -c constraints.txt \
	    $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") torch torchvision
	$(RUN) -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) demo-run build dist
