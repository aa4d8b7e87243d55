"""Tensors over memory, without a copy: as NumPy arrays or torch tensors."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from getm.errors import FormatError, InvalidInput, MissingExtra
from getm.integrations.safetensors.header import DTYPES, TensorInfo

# Makes one tensor of its bytes.
Maker = Callable[[TensorInfo, memoryview], Any]


def maker(framework: Literal["numpy", "torch"]) -> Maker:
    """Raises `InvalidInput` for another framework, `MissingExtra` where its package is not installed."""
    if framework == "numpy":
        return partial(_numpy_array, _imported("numpy"))
    if framework == "torch":
        return partial(_torch_tensor, _imported("numpy"), _imported("torch"))
    raise InvalidInput(f'framework must be "numpy" or "torch", not {framework!r}')


def _imported(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        requirement = "torch" if package == "torch" else "getm[safetensors]"
        raise MissingExtra(
            f'getm.integrations.safetensors needs the package "{package}", which is not installed: '
            f'pip install "{requirement}"'
        ) from error


def _numpy_array(numpy: Any, tensor: TensorInfo, content: memoryview) -> Any:
    name = DTYPES[tensor.dtype].numpy
    if name is None:
        raise _no_array(tensor, "NumPy")
    dtype = getattr(numpy, name, None) or getattr(_imported("ml_dtypes"), name, None)
    if dtype is None:
        raise _no_array(tensor, "ml_dtypes")
    dtype = numpy.dtype(dtype)
    if sys.byteorder == "big":
        dtype = dtype.newbyteorder("<")
    return numpy.frombuffer(content, dtype=dtype).reshape(tensor.shape)


class _Memory:
    """Bytes of a view, for NumPy: as if they could be written, since torch warns of any others. Keeps the view."""

    def __init__(self, array: Any) -> None:
        self._array = array
        interface = dict(array.__array_interface__)
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def _torch_tensor(numpy: Any, torch: Any, tensor: TensorInfo, content: memoryview) -> Any:
    name = DTYPES[tensor.dtype].torch
    dtype = None if name is None else getattr(torch, name, None)
    if dtype is None:
        raise _no_array(tensor, "this version of torch")
    if not len(content):
        return torch.empty(tensor.shape, dtype=dtype)
    octets = torch.from_numpy(numpy.asarray(_Memory(numpy.frombuffer(content, dtype=numpy.uint8))))
    if octets.data_ptr() % dtype.itemsize:
        # torch takes no other places.
        octets = octets.clone()
    return octets.view(dtype).reshape(tensor.shape)


def _no_array(tensor: TensorInfo, whose: str) -> FormatError:
    return FormatError(
        f"the tensor {tensor.name!r}: {whose} has nothing for its dtype {tensor.dtype}; leave it out by names",
        name=tensor.name,
    )
