#!/bin/bash
# Resolves pyproject.toml into the four lock files: with hashes, without any index's address.
set -euo pipefail
cd "$(dirname "$0")/.."

environment="$(mktemp -d)"
trap 'rm -rf "$environment"' EXIT
.venv/bin/python -m venv "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check pip-tools==7.6.2
compile=("$environment/bin/pip-compile" --quiet --allow-unsafe --generate-hashes --strip-extras
    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header)
"${compile[@]}" -o requirements.lock pyproject.toml
# The runtime's pins hold in the development lock too: what is tested is what is shipped. The cloud providers'
# clients are in it, so that their tests run.
"${compile[@]}" --extra dev --extra gemini --extra openai --constraint requirements.lock -o requirements-dev.lock pyproject.toml
# PyTorch for training, which the service never imports: not where it is tested, and large.
"${compile[@]}" --extra train --constraint requirements-dev.lock -o requirements-train.lock pyproject.toml
# What the container image builds the wheel with.
"${compile[@]}" --only-build-deps --build-deps-for wheel --constraint requirements-dev.lock \
    -o requirements-build.lock pyproject.toml
