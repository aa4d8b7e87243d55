"""Some tensors of a safetensors file, without the others: python examples/tensors.py URL

They are NumPy arrays over the memory that was received; `framework="torch"` makes torch tensors of them.
"""

from __future__ import annotations

import sys

import getm
from getm.integrations.safetensors import load

url = sys.argv[1] + "model.safetensors"
# Two requests: the header, and the bytes of these tensors.
tensors = load(url, names=["layer3.weight", "bias"])
for name, array in tensors.items():
    print(name, array.dtype, array.shape, f"mean {array.mean():.1f}")
print(f"{sum(array.nbytes for array in tensors.values())} of {getm.info(url).size} bytes")
