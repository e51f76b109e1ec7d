#!/usr/bin/env bash
# Write exact versions of everything that development and tests install, by name and version alone.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
  UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}} .venv/bin/uv pip compile -q "$@" --python-version 3.11 \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links --upgrade
  sed -i -e '/^headrace/d' -e 's/+[a-z0-9.]*$//' "${@: -1}" # which build of a version is the installing machine's to choose
}
for extra in demo test bench; do
  compile pyproject.toml --extra "$extra" -o "requirements/$extra.txt"
done
for group in requirements/engines/*.in; do
  compile pyproject.toml "$group" -o "${group%.in}.txt"
done
