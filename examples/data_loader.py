"""A DataLoader whose workers share one copy of the samples: python examples/data_loader.py URL

The object is received and verified once. A worker gets a few bytes, which say where the memory is, and maps the same
pages; nobody can change them. For data that memory has no room for, see the dataset over `read_ranges` in
docs/how-to/torch.md.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import getm

COLUMNS = 64


class Samples(Dataset[torch.Tensor]):
    def __init__(self, shared: getm.SharedObject) -> None:
        self.shared = shared

    def __len__(self) -> int:
        return self.shared.size // (4 * COLUMNS)

    def __getitems__(self, numbers: list[int]) -> list[torch.Tensor]:
        # Made here, not in __init__: an array would be pickled with all its bytes.
        samples = np.frombuffer(self.shared.view, dtype=np.float32).reshape(-1, COLUMNS)
        # This copies these samples alone: torch has no tensors that cannot be written to.
        return list(torch.from_numpy(samples[numbers]))


# The workers import this file, where they are not forked.
if __name__ == "__main__":
    with getm.shared(sys.argv[1] + "samples.f32") as shared:
        print(shared.size, "bytes,", shared.checksum)
        batches = DataLoader(
            Samples(shared), batch_size=250, shuffle=True, num_workers=2, multiprocessing_context="spawn"
        )
        means = [float(batch.mean()) for batch in batches]
        print(f"{len(means)} batches, mean {sum(means) / len(means):.1f}")
