#!/usr/bin/env bash
# Write exact versions of everything that development and tests install, by name and version alone.
set -euo pipefail
cd "$(dirname "$0")/.."
for extra in demo test bench; do
  .venv/bin/uv pip compile -q pyproject.toml --extra "$extra" --python-version 3.11 \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links --upgrade -o "requirements/$extra.txt"
  sed -i '/^headrace/d' "requirements/$extra.txt"
done
