"""`headrace.torch` without PyTorch says what to install."""

from __future__ import annotations

import subprocess
import sys


def test_without_pytorch_the_extra_is_named() -> None:
    lines = "import sys; sys.modules['torch'] = None\nimport headrace.torch"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, timeout=60, check=False)
    assert "headrace.torch needs PyTorch: pip install 'headrace[torch]'" in done.stderr
