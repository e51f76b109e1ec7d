"""Epochs of a PyTorch loader over the same samples in several ways, in turn; run by the engines' environment `torch`.

Reads what to do as JSON on stdin and prints samples a second of each way and round as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from headrace.client import Client
from headrace.samples import Samples
from headrace.torch import ObjectDataset, ObjectStream

BATCH = 64
_WARMING = 3


class LocalFiles:
    """What anybody writes for files: one tensor of bytes for each."""

    def __init__(self, folder: str) -> None:
        self.paths = sorted(str(path) for path in Path(folder).iterdir())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> torch.Tensor:
        with open(self.paths[number], "rb", buffering=0) as file:
            tensor = torch.empty(os.fstat(file.fileno()).st_size, dtype=torch.uint8)
            file.readinto(tensor.numpy())
        return tensor


def from_s3(item: Any) -> torch.Tensor:
    data = item.read()
    tensor = torch.empty(len(data), dtype=torch.uint8)
    tensor.numpy()[:] = np.frombuffer(data, np.uint8)
    return tensor


def loaders(asked: dict[str, Any], workers: int) -> dict[str, Callable[[], Any]]:
    """A maker for each way; the loaders keep their workers from epoch to epoch."""
    options: dict[str, Any] = {"batch_size": BATCH, "num_workers": workers, "persistent_workers": workers > 0}
    samples = Samples(Client.connect(asked["config"], mode="remote"), "/set")
    embedded = Samples(Client.connect(asked["config"], mode="embedded"), "/set")
    made: dict[str, Callable[[], Any]] = {
        "local": lambda: DataLoader(LocalFiles(asked["folder"]), shuffle=True, **options),
        "stream": lambda: DataLoader(ObjectStream(samples, batch_size=BATCH), **options),
        "embedded": lambda: DataLoader(ObjectStream(embedded, batch_size=BATCH), **options),
        "dataset": lambda: DataLoader(ObjectDataset(samples), shuffle=True, **options),
    }
    if asked["s3"]:
        from s3torchconnector import S3ClientConfig, S3MapDataset

        reach = {"region": "us-east-1", "endpoint": asked["s3"], "s3client_config": S3ClientConfig(force_path_style=True)}
        objects = S3MapDataset.from_prefix("s3://set/", transform=from_s3, **reach)
        made["s3torchconnector"] = lambda: DataLoader(objects, shuffle=True, **options)
    return made


def epoch(loader: Any) -> float:
    """Samples a second."""
    began, count = time.perf_counter(), 0
    for batch in loader:
        count += len(batch)
    return count / (time.perf_counter() - began)


def warm_up(config: str) -> None:
    """Fill the cache, and let its keeper put together what was filled page by page."""
    samples = Samples(Client.connect(config, mode="remote"), "/set")
    for _ in range(_WARMING):
        samples.warm(range(len(samples)))


def main() -> None:
    asked = json.load(sys.stdin)
    torch.set_num_threads(1)  # as the loader's own workers have it: putting a batch together is no work for a pool
    warm_up(asked["config"])
    found: dict[str, dict[str, list[float]]] = {}
    for workers in asked["workers"]:
        opened = {name: make() for name, make in loaders(asked, workers).items()}
        rates = found.setdefault(str(workers), {name: [] for name in opened})
        for number in range(asked["rounds"] + 1):
            for name, loader in opened.items():
                rate = epoch(loader)
                if number:  # the first starts the workers
                    rates[name].append(rate)
        del opened
    print(json.dumps(found))


if __name__ == "__main__":
    main()
