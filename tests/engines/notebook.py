"""Run the blocks of a how-to page as the cells of one notebook, in a real kernel: `notebook.py PAGE`."""

from __future__ import annotations

import json
import sys

import nbformat
from nbclient import NotebookClient

cells = [nbformat.v4.new_code_cell(cell) for cell in json.loads(sys.argv[1])]
notebook = nbformat.v4.new_notebook(cells=cells)
NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
assert any(cell.outputs for cell in notebook.cells), "no cell showed anything"
