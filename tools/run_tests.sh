#!/bin/sh
# Every test, in half of the time on two cores: those marked `learning` (tests/conftest.py) beside those of the line.
# Usage: tools/run_tests.sh PYTHON
set -u
python=$1
said=$(mktemp)
PYTHONSAFEPATH=1 "$python" -m pytest -rfEs --durations=10 -p no:cacheprovider -m "learning and not image" >"$said" 2>&1 &
learning=$!
trap 'kill "$learning" 2>/dev/null; rm -f "$said"' EXIT
PYTHONSAFEPATH=1 "$python" -m pytest -rfEs --durations=10 -m "not learning and not image"
line=$?
wait "$learning"
learned=$?
cat "$said"
[ "$line" -eq 0 ] && [ "$learned" -eq 0 ]
