"""The header of a safetensors file: which tensors there are, and where. Pure parsing, no I/O.

The format (https://huggingface.co/docs/safetensors): eight bytes, little-endian, with the length of the header; the
header, a JSON object of UTF-8; then the data. The header names each tensor with its dtype, its shape and where it is in
the data, half-open. Every byte of the data belongs to exactly one tensor, so nothing can hide between them, and none
can be read as two.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from getm.errors import FormatError

LENGTH_BYTES = 8
# The format's own limit.
MAX_HEADER_BYTES = 100_000_000
# NumPy's limit.
_MAX_DIMENSIONS = 64
_METADATA = "__metadata__"


class Dtype(NamedTuple):
    """A dtype of the format: bits of an element, and the names of NumPy (or ml_dtypes) and of torch for it."""

    bits: int
    numpy: str | None
    torch: str | None


DTYPES: dict[str, Dtype] = {
    "BOOL": Dtype(8, "bool", "bool"),
    "U8": Dtype(8, "uint8", "uint8"),
    "I8": Dtype(8, "int8", "int8"),
    "F8_E5M2": Dtype(8, "float8_e5m2", "float8_e5m2"),
    "F8_E4M3": Dtype(8, "float8_e4m3fn", "float8_e4m3fn"),
    "F8_E8M0": Dtype(8, "float8_e8m0fnu", "float8_e8m0fnu"),
    "F8_E4M3FNUZ": Dtype(8, "float8_e4m3fnuz", "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": Dtype(8, "float8_e5m2fnuz", "float8_e5m2fnuz"),
    "U16": Dtype(16, "uint16", "uint16"),
    "I16": Dtype(16, "int16", "int16"),
    "F16": Dtype(16, "float16", "float16"),
    "BF16": Dtype(16, "bfloat16", "bfloat16"),
    "U32": Dtype(32, "uint32", "uint32"),
    "I32": Dtype(32, "int32", "int32"),
    "F32": Dtype(32, "float32", "float32"),
    "C64": Dtype(64, "complex64", "complex64"),
    "U64": Dtype(64, "uint64", "uint64"),
    "I64": Dtype(64, "int64", "int64"),
    "F64": Dtype(64, "float64", "float64"),
    # Elements that are no whole bytes: known, so that the sizes can be checked, and not made into arrays.
    "F4": Dtype(4, None, None),
    "F6_E2M3": Dtype(6, None, None),
    "F6_E3M2": Dtype(6, None, None),
}


class TensorInfo(NamedTuple):
    """A tensor of a file: `start` and `stop` are positions in the file, half-open."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def header_stop(start_of_file: bytes | memoryview, size: int | None, url: str | None) -> int:
    """Where the header ends, by the first bytes of a file of `size` bytes. Raises `FormatError`."""
    if len(start_of_file) < LENGTH_BYTES:
        raise FormatError(f"expected a safetensors file: {len(start_of_file)} bytes are too few for one", url=url)
    length = int.from_bytes(start_of_file[:LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise FormatError(
            f"expected a safetensors file: its header would have {length} bytes, and may have {MAX_HEADER_BYTES}",
            url=url,
        )
    stop = LENGTH_BYTES + length
    if size is not None and stop > size:
        raise FormatError(f"the header would end at byte {stop}, and the file has {size}", url=url)
    return stop


def parse_header(content: bytes, size: int, url: str | None = None) -> dict[str, TensorInfo]:
    """The tensors by name, in the order of their places. `content`: the file up to the end of its header; `size`: bytes
    of the file. Raises `FormatError`, which names the tensor."""
    header = _decoded(content[LENGTH_BYTES:], url)
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"{_METADATA} must have text alone", url=url)
    tensors = [_tensor(name, fields, len(content), size, url) for name, fields in header.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.stop))
    position, before = len(content), "the header"
    for tensor in tensors:
        if tensor.start != position:
            what = "overlaps" if tensor.start < position else "leaves a hole after"
            raise FormatError(
                f"the tensor {tensor.name!r} {what} {before}: it begins at byte {tensor.start}, expected {position}",
                url=url,
                name=tensor.name,
            )
        position, before = tensor.stop, repr(tensor.name)
    if position != size:
        raise FormatError(f"the tensors end at byte {position}, and the file has {size}", url=url)
    return {tensor.name: tensor for tensor in tensors}


def _decoded(content: bytes, url: str | None) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in fields if names.count(name) > 1)
            raise FormatError(f"{twice!r} stands twice in the header", url=url, name=twice)
        return fields

    if content[:1] != b"{":
        raise FormatError("expected a safetensors file: its header does not begin with '{'", url=url)
    try:
        header = json.loads(content.decode(), object_pairs_hook=unique)
    except FormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the header is no JSON: {error}", url=url) from None
    # A text that begins so, and is JSON, is an object.
    fields: dict[str, Any] = header
    return fields


def _tensor(name: str, fields: Any, data_start: int, size: int, url: str | None) -> TensorInfo:
    def refused(why: str) -> FormatError:
        return FormatError(f"the tensor {name!r}: {why}", url=url, name=name)

    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise refused("expected dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise refused(f"its dtype is {dtype!r:.40}, which the format does not know")
    if not _are_counts(shape) or len(shape) > _MAX_DIMENSIONS:
        raise refused(f"its shape must have at most {_MAX_DIMENSIONS} numbers from 0 on")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise refused(f"its data_offsets are {offsets!r:.60}, expected two numbers that rise")
    if data_start + offsets[1] > size:
        raise refused(f"it ends at byte {data_start + offsets[1]}, and the file has {size}")
    bits = math.prod(shape) * DTYPES[dtype].bits
    if bits != (offsets[1] - offsets[0]) * 8:
        raise refused(f"its shape and dtype need {bits / 8:.12g} bytes, and it has {offsets[1] - offsets[0]}")
    return TensorInfo(name, dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _are_counts(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)
