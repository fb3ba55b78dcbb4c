#!/bin/sh
# Every test, in half of the time on two cores: those marked `learning` (tests/conftest.py) beside those of the line.
# Usage: tools/run_tests.sh PYTHON
set -eu
python=$1
said=$(mktemp)
export PYTHONSAFEPATH=1
"$python" -m pytest -rfEs --durations=10 -p no:cacheprovider -m "learning and not image" >"$said" 2>&1 &
learning=$!
trap 'kill "$learning" 2>/dev/null || true; rm -f "$said"' EXIT
failed=0
"$python" -m pytest -rfEs --durations=10 -m "not learning and not image" || failed=$?
wait "$learning" || failed=$?
cat "$said"
exit "$failed"
