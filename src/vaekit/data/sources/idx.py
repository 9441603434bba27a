"""Reading IDX, the array format of MNIST and its descendants, plain or gzipped.

An IDX file is: two zero bytes, a byte for the element type, a byte for the number of dimensions, each dimension as a
big-endian uint32, then the elements in C order, big-endian. Any bytes give an array or a `DataError`: lengths are
compared before memory is allocated, and no more is unpacked than the header promises.

Not for: writing, or the expected content of a data set.

Reference: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", section "File formats".
"""

import gzip
import hashlib
import io
import math
import os
import zlib
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 4  # (N, C, H, W)
_BYTES_PER_READ = 1 << 20
_Stream = IO[bytes] | gzip.GzipFile


class _Header(NamedTuple):
    """The header: its bytes, the element type, the shape, and the number of bytes that must follow."""

    raw: bytes
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    size: int


def read_idx(source: str | os.PathLike[str] | bytes, *, md5: str | None = None) -> NDArray[np.generic]:
    """The array in an IDX file, in the machine's byte order.

    Arguments:
        source: Path of the file, or its content; gzipped content is recognised by its first bytes.
        md5: Expected MD5 of the unpacked file (hexadecimal); None accepts any.

    Raises:
        DataError: The file is missing, is not an IDX file, is shorter or longer than its header says, or has another
            checksum.

    >>> read_idx(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 1, 7, 9]))
    array([[7],
           [9]], dtype=uint8)
    """
    name = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    return idx_array(unpack_idx(source, md5=md5), name)


def unpack_idx(source: str | os.PathLike[str] | bytes, *, md5: str | None = None) -> bytearray:
    """The unpacked content of an IDX file, header included; see `read_idx`."""
    if isinstance(source, bytes):
        name, content = "<bytes>", _unpack(io.BytesIO(source), len(source), "<bytes>")
    else:
        name, content = os.fspath(source), _unpack_file(Path(source))
    if md5 is not None and (actual := md5_of(content)) != md5:
        raise DataError(f"{name}: its MD5 is {actual}, but {md5} is expected: the file is damaged or another one")
    return content


def idx_array(content: bytearray, name: str) -> NDArray[np.generic]:
    """The array in unpacked content. It shares the content's memory, unless its byte order has to change."""
    header = _header(io.BytesIO(content[: 4 + 4 * _MAX_DIMENSIONS]), name)
    array = np.frombuffer(content, dtype=header.dtype, offset=len(header.raw)).reshape(header.shape)
    return array.astype(header.dtype.newbyteorder("="), copy=False)


def md5_of(content: bytearray) -> str:
    """MD5 in hexadecimal: it guards against damage, not against attackers."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _unpack_file(path: Path) -> bytearray:
    try:
        if not path.is_file():  # checked first: opening a pipe would wait for a writer
            raise DataError(f"{path}: no such file")
        with path.open("rb") as file:
            return _unpack(file, os.fstat(file.fileno()).st_size, str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _unpack(file: IO[bytes], size: int, name: str) -> bytearray:
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if packed:
        try:
            with gzip.GzipFile(fileobj=file) as stream:
                return _body(stream, _header(stream, name), name)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{name}: damaged gzip file ({error})") from error
    header = _header(file, name)
    if size != len(header.raw) + header.size:
        promised = f"{list(header.shape)} of {header.dtype.itemsize} byte(s) each"
        raise DataError(f"{name}: {size} bytes, but its header promises {promised}: it is truncated or not an IDX file")
    return _body(file, header, name)


def _body(stream: _Stream, header: _Header, name: str) -> bytearray:
    content = bytearray(header.raw)
    end = len(header.raw) + header.size
    while len(content) < end and (chunk := stream.read(min(_BYTES_PER_READ, end - len(content)))):
        content += chunk  # grows with the bytes in the file, never with the claim of the header
    if len(content) < end or stream.read(1):  # at the end of a gzip stream its CRC is checked
        relation = "fewer" if len(content) < end else "more"
        raise DataError(f"{name}: {relation} bytes than its header promises ({list(header.shape)}): it is damaged")
    return content


def _header(stream: _Stream, name: str) -> _Header:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= magic[3] <= _MAX_DIMENSIONS:
        raise DataError(
            f"{name}: not an IDX file: it starts with {magic.hex(' ') or 'nothing'} instead of 00 00, an element type "
            f"({', '.join(f'{code:02x}' for code in _TYPES)}) and 1 to {_MAX_DIMENSIONS} dimensions"
        )
    sizes = stream.read(4 * magic[3])
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
    if len(sizes) < 4 * magic[3] or 0 in shape:
        raise DataError(f"{name}: not an IDX file: its header says {list(shape)} for {magic[3]} positive dimension(s)")
    dtype = np.dtype(_TYPES[magic[2]])
    return _Header(magic + sizes, dtype, shape, math.prod(shape) * dtype.itemsize)
