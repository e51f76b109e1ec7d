#!/usr/bin/env bash
# Make .venv hold the locked packages of one group (demo, test or bench) and this project; quick when it already does.
set -euo pipefail
cd "$(dirname "$0")/.."
group=${1:?group: demo, test or bench}
python=${PYTHON:-python3}
lock=requirements/$group.txt
stamp=.venv/.installed-$group
if [ -f "$stamp" ] && cmp -s "$lock" "$stamp"; then exit 0; fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "headrace needs Python 3.11 or newer; set PYTHON=…" >&2; exit 1; }
[ -x .venv/bin/python ] || "$python" -m venv .venv
uv=$(grep -E '^uv==' requirements/uv.txt)
.venv/bin/python -c 'import uv' 2>/dev/null || .venv/bin/python -m pip install -q "$uv" || true
install() {
  # uv is several times faster; pip is there on every machine.
  if [ -x .venv/bin/uv ] && VIRTUAL_ENV=$PWD/.venv .venv/bin/uv pip install -q "$@"; then return; fi
  .venv/bin/python -m pip install -q "$@"
}
echo "installing the locked packages of '$group' into .venv …" >&2
install -r "$lock"
install --no-deps -e .
cp "$lock" "$stamp"
