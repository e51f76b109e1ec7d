#!/usr/bin/env bash
# Set up engines' environments and run their tests: all of them, those whose turn it is (today), or groups by name.
set -euo pipefail
cd "$(dirname "$0")/.."
ENGINES=$(.venv/bin/python tests/support/engines.py "$@")
export ENGINES
echo "engines: $ENGINES"
# shellcheck disable=SC2086
scripts/ensure-engines.sh $ENGINES
.venv/bin/python -m pytest -q -m engines tests/engines
