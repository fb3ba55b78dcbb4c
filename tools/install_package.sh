#!/bin/bash
# Builds the wheel and installs it into .venv, so that tests and demo run what a customer would get.
set -euo pipefail
cd "$(dirname "$0")/.."

pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input -qq)
wheels="$(mktemp -d)"
trap 'rm -rf "$wheels"' EXIT
# The build backend is hatchling as pinned in the lock file: nothing is downloaded here.
"${pip[@]}" wheel --no-deps --no-build-isolation --no-index --wheel-dir "$wheels" .
"${pip[@]}" install --no-deps --no-index --force-reinstall "$wheels"/*.whl
touch .venv/.package-installed
