"""Markers that PyArrow's own tests carry, which are collected here."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    for name in ("azure", "gcs", "gzip", "hdfs", "numpy", "pandas", "parquet", "processes", "large_memory", "s3", "threading"):
        config.addinivalue_line("markers", f"{name}: PyArrow's own")
