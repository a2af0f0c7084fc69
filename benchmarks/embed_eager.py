"""The loop that a user writes today: torch as it comes, a DataLoader over the plate's TIFFs.

A sensible one: a field's files are read once for all of its crops, ahead of the model; inference
mode; the batch that was found best; as many threads as all others have. The module is the one that
was exported, so the normalisation is the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.embed_inputs import CROPS_A_FIELD, Embed, Inputs, Read, Settings, cut_field
from benchmarks.plates import find_fields, read_field
from benchmarks.vits import build_module
from phenopipe.plates import FieldKey

# Processes that read: one keeps ahead of two cores, a GPU asks for more.
_READERS = {"cpu": 1, "cuda": 8}


class Fields(Dataset[torch.Tensor]):
    """Fields of a plate, each as its crops ``(n, c, y, x)``."""

    def __init__(self, plate: Path, fields: list[FieldKey]) -> None:
        self.plate, self.fields = plate, fields

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch.from_numpy(cut_field(read_field(self.plate, self.fields[number])))


@contextmanager
def open_loop(inputs: Inputs, path: Path, settings: Settings) -> Iterator[Embed]:
    """Load the model and run a batch; the loop writes its rows to the path."""
    torch.set_num_threads(settings.threads)
    module = build_module(inputs.vit).to(settings.device)
    fields = find_fields(inputs.plate)[: -(-settings.crops // CROPS_A_FIELD)]
    dataset = Fields(inputs.plate, fields)
    _embed_batches(dataset[0][: settings.batch], module, settings)
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=_READERS[settings.device],
        pin_memory=settings.device == "cuda",
    )

    def embed() -> Read:
        left, rows = settings.crops, []
        for crops in loader:
            rows.append(_embed_batches(crops[:left], module, settings))
            left -= len(crops)
        np.save(path, torch.cat(rows).numpy())
        return partial(np.load, path)

    yield embed


@torch.inference_mode()
def _embed_batches(
    crops: torch.Tensor, module: torch.nn.Module, settings: Settings
) -> torch.Tensor:
    """Embed the crops of a field; counts become float32 where the model is."""
    batches = (
        batch.to(settings.device, non_blocking=True).float()
        for batch in crops.split(settings.batch)
    )
    return torch.cat([module(batch) for batch in batches]).cpu()
