#!/bin/bash
# Creates .venv with exactly the packages of requirements-dev.lock, checked against their hashes.
set -euo pipefail
cd "$(dirname "$0")/.."

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

python=""
for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if is_new_enough "$candidate"; then python="$candidate"; break; fi
done
if [[ -z "$python" ]]; then
    echo "Python 3.11 or newer is needed, found: $(python3 --version 2>&1 || true)." >&2
    echo "On Debian 12 or newer: apt-get install python3 python3-venv; elsewhere set PYTHON=/path/to/python3." >&2
    exit 1
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    sudo=""
    if [[ $EUID -ne 0 ]]; then sudo="sudo -n"; fi
    if ! command -v apt-get >/dev/null || { [[ -n "$sudo" ]] && ! sudo -n true 2>/dev/null; }; then
        echo "$python cannot make virtual environments. On Debian run: apt-get install python3-venv" >&2
        exit 1
    fi
    echo "Installing python3-venv, which $python needs to make a virtual environment ..."
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
fi

echo "Creating .venv with $("$python" --version); the packages take about a minute ..."
"$python" -m venv --clear .venv
.venv/bin/python -m pip install -qq --disable-pip-version-check --no-input --no-deps --only-binary :all: \
    --require-hashes -r requirements-dev.lock
.venv/bin/python -m pip check --disable-pip-version-check >/dev/null
touch .venv/.lock-installed
