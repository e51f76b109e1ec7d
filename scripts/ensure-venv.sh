#!/usr/bin/env bash
# Make a virtual environment hold the locked packages of one group and this project; quick when it already does.
# The groups of the engines (engines/<name>) have environments of their own, everything else is in .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
group=${1:?group: demo, test, bench or engines/<name>}
venv=${2:-.venv}
python=${PYTHON:-python3}
lock=requirements/$group.txt
stamp=$venv/.installed-${group##*/}
if [ -f "$stamp" ] && cmp -s "$lock" "$stamp"; then exit 0; fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "headrace needs Python 3.11 or newer; set PYTHON=…" >&2; exit 1; }
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
uv=$(grep -E '^uv==' requirements/uv.txt)
[ -x .venv/bin/uv ] || .venv/bin/python -m pip install -q "$uv" || true
export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}} # where pip is told of wheels on this machine, so is uv
install() {
  # uv is several times faster; pip is there on every machine.
  if [ -x .venv/bin/uv ] && VIRTUAL_ENV=$PWD/$venv .venv/bin/uv pip install -q "$@"; then return; fi
  "$venv/bin/python" -m pip install -q "$@"
}
echo "installing the locked packages of '$group' into $venv …" >&2
install -r "$lock"
install --no-deps -e .
cp "$lock" "$stamp"
