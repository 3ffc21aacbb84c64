"""Readers of TensorFlow's files without TensorFlow: frozen graphs and checkpoints.

A frozen graph (``.pb``) is a ``GraphDef`` in the wire format of Protocol Buffers, whose weights are
nodes ``Const``. A checkpoint (a "tensor bundle") is a table in the format of LevelDB (``.index``)
that lists where the raw little-endian values lie in ``.data-…`` files. Only numbers are read.
"""

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from featplug.io.limits import Budget, LimitError

TABLE_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
"""The last bytes of an ``.index`` file."""

MAX_FIELDS = 1_000_000
"""Largest number of fields of the messages in a file."""

# Numbers of the enum DataType.
_DTYPES = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 17: "<u2",
    19: "<f2", 22: "<u4", 23: "<u8",
}  # fmt: skip
_MAX_AXES = 32
_MAX_KEY_BYTES = 1000
_MAX_LISTED_NUMBERS = 100_000
"""Largest number of bytes of a list of whole numbers, each of which has a length of its own."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FOOTER_SIZE = 48
_TRAILER_SIZE = 5
_NO_COMPRESSION = 0


class _DamageError(Exception):
    """A file is damaged; the message says how, in a few words."""


@dataclass
class GraphNode:
    """One node of a graph."""

    op: str = ""
    inputs: list[str] = field(default_factory=list)
    attributes: dict[str, float] = field(default_factory=dict)
    """Attributes that are single floats, such as ``epsilon``."""
    value: np.ndarray | None = None
    """Value of a ``Const`` of numbers."""


def read_graph(
    data: bytes | memoryview, name: str, budget: Budget | None = None
) -> dict[str, GraphNode]:
    """Read a frozen graph, the content of the ``.pb`` file ``name``.

    The values of its nodes may be views of the content; the others are counted in ``budget``.

    Returns:
        The nodes by name, in the file's order.

    Raises:
        ValueError: it is damaged, or not a graph.
    """
    try:
        budget = budget or Budget(max_items=MAX_FIELDS)
        nodes = dict(_node(value, budget) for number, value in _fields(data, budget) if number == 1)
        if not nodes or not all(node.op for node in nodes.values()):
            raise _DamageError("it has no nodes")
    except (_DamageError, LimitError) as error:
        raise ValueError(
            f"{name} is damaged or not a TensorFlow graph ({error}); download it again."
        ) from error
    return nodes


def read_bundle(
    index: bytes | memoryview,
    read_data: Callable[[str], bytes | memoryview],
    name: str,
    select: Callable[[str], bool] = lambda _: True,
    budget: Budget | None = None,
) -> dict[str, np.ndarray]:
    """Read the variables of a checkpoint; all checksums are checked.

    Args:
        index: the content of the ``.index`` file.
        read_data: returns the content of the data file with a suffix such as
            ``.data-00000-of-00001``.
        name: the ``.index`` file, for messages.
        select: whether to read a variable, by name.
        budget: what the variables may take in memory.

    Returns:
        Arrays by name of the variables that are numbers, views of the content.

    Raises:
        ValueError: a file is damaged or of another kind.
    """
    try:
        budget = budget or Budget(max_items=MAX_FIELDS)
        table = dict(_table(bytes(index), budget))
        header = _Message(table.pop(b"", b""), budget)
        num_shards = header.integer(1)
        if num_shards < 1 or header.integer(2) != 0:
            raise _DamageError("it has no header of a little-endian checkpoint")
        shards: dict[int, bytes | memoryview] = {}
        arrays = {}
        for key, entry in table.items():
            fields = _Message(entry, budget)
            dtype, shard, start, size = map(fields.integer, (1, 3, 4, 5))
            variable = key.decode(errors="replace")
            if dtype not in _DTYPES or not select(variable):
                continue
            if shard not in shards:
                shards[shard] = read_data(f".data-{shard:05d}-of-{num_shards:05d}")
            budget.take(size)
            content = shards[shard][start : start + size]
            if len(content) != size:
                raise _DamageError(f"the data file ends before {variable}")
            if masked_crc32c(content) != fields.integer(6):
                raise _DamageError(f"the checksum of {variable} does not match")
            arrays[variable] = _array(content, dtype, _shape(fields.content(2), budget))
    except (_DamageError, LimitError) as error:
        raise ValueError(
            f"{name} is damaged or not a TensorFlow checkpoint ({error}); download it again."
        ) from error
    return arrays


# ---------------------------------------------------------------- Protocol Buffers


def _varint(data: memoryview | bytes, at: int) -> tuple[int, int]:
    """Read a base-128 number; return it and the position after it."""
    value = shift = 0
    while shift < 70:
        if at >= len(data):
            raise _DamageError("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (2**64 - 1), at
        shift += 7
    raise _DamageError("a number has too many bytes")


def _fields(data: bytes | memoryview, budget: Budget) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the field numbers of a message, and the values as int or memoryview."""
    data = memoryview(data)
    at = 0
    while at < len(data):
        budget.take()
        key, at = _varint(data, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire_type == _BYTES:
            size, at = _varint(data, at)
        elif wire_type in (_FIXED64, _FIXED32):
            size = 8 if wire_type == _FIXED64 else 4
        else:
            raise _DamageError("it has a field of an unknown kind")
        if number == 0 or size > len(data) - at:
            raise _DamageError("it ends within a field")
        content = data[at : at + size]
        at += size
        yield number, content if wire_type == _BYTES else int.from_bytes(content, "little")


def _content(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _DamageError("a number is where something longer should be")
    return value


def _integer(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise _DamageError("something long is where a number should be")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_content(value)).decode(errors="replace")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


class _Message:
    """A message's fields by number: the last value of a repeated field, 0 for a missing one."""

    def __init__(self, data: bytes | memoryview, budget: Budget) -> None:
        self.fields = dict(_fields(data, budget))

    def integer(self, number: int) -> int:
        return _integer(self.fields.get(number, 0))

    def content(self, number: int) -> memoryview:
        return _content(self.fields.get(number, memoryview(b"")))


def _node(data: int | memoryview, budget: Budget) -> tuple[str, GraphNode]:
    """Read a ``NodeDef``."""
    name, node = "", GraphNode()
    for number, value in _fields(_content(data), budget):
        if number == 1:
            name = _text(value)
        elif number == 2:
            node.op = _text(value)
        elif number == 3:
            node.inputs.append(_text(value))
        elif number == 5:
            entry = _Message(_content(value), budget)
            attribute = _Message(entry.content(2), budget)
            if 8 in attribute.fields and node.op == "Const":
                node.value = _tensor(attribute.content(8), budget)
            elif 4 in attribute.fields:
                bits = (attribute.integer(4) % 2**32).to_bytes(4, "little")
                (node.attributes[_text(entry.content(1))],) = struct.unpack("<f", bits)
    return name, node


def _shape(data: memoryview, budget: Budget) -> tuple[int, ...]:
    """Read a ``TensorShapeProto``."""
    axes = [_content(value) for number, value in _fields(data, budget) if number == 2]
    if len(axes) > _MAX_AXES:
        raise _DamageError(f"a tensor has {len(axes)} axes")
    shape = tuple(_signed(_Message(axis, budget).integer(1)) for axis in axes)
    if any(size < 0 for size in shape):
        raise _DamageError(f"a tensor has the shape {shape}")
    return shape


_TYPED_VALUES = {5: "<f4", 6: "<f8", 7: "varint", 10: "varint", 11: "varint", 13: "varint"}
"""Fields of a ``TensorProto`` with values that are not raw bytes, and the type of these."""


def _tensor(data: memoryview, budget: Budget) -> np.ndarray | None:
    """Read a ``TensorProto``; None for one that is not of numbers."""
    dtype, content = 0, memoryview(b"")
    shape: tuple[int, ...] = ()
    values: list[np.ndarray] = []
    for number, value in _fields(data, budget):
        if number == 1:
            dtype = _integer(value)
        elif number == 2:
            shape = _shape(_content(value), budget)
        elif number == 4:
            content = _content(value)
        elif number in _TYPED_VALUES:
            values.append(_typed_values(value, _TYPED_VALUES[number]))
    if dtype not in _DTYPES:
        return None
    if content:
        return _array(content, dtype, shape)
    # A list that is too short is continued by its last value, an empty one by 0.
    kind = np.dtype(_DTYPES[dtype])
    given = np.concatenate(values) if values else np.zeros(1)
    if kind == np.float16:
        given = given.astype("<u2").view(kind)
    size = math.prod(shape)
    budget.take(size * kind.itemsize)
    if len(given) > max(size, 1):
        raise _DamageError(f"a tensor of shape {shape} has {len(given)} values")
    filled = np.full(size, given[-1] if len(given) else 0, kind)
    filled[: len(given)] = given[:size]
    return filled.reshape(shape)


def _typed_values(value: int | memoryview, kind: str) -> np.ndarray:
    """Return the numbers of one field of a ``TensorProto``, packed or single."""
    if kind != "varint":
        size = np.dtype(kind).itemsize
        is_single = isinstance(value, int)
        raw = (value % 256**size).to_bytes(size, "little") if is_single else bytes(value)
        if len(raw) % size:
            raise _DamageError("it ends within a number")
        return np.frombuffer(raw, kind)
    if isinstance(value, int):
        return np.array([_signed(value)])
    if len(value) > _MAX_LISTED_NUMBERS:
        raise _DamageError(f"a list of whole numbers has {len(value)} bytes")
    numbers, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        numbers.append(_signed(number))
    return np.array(numbers, np.int64)


def _array(content: bytes | memoryview, dtype: int, shape: tuple[int, ...]) -> np.ndarray:
    kind = np.dtype(_DTYPES[dtype])
    if len(content) != math.prod(shape) * kind.itemsize:
        raise _DamageError(f"a tensor of shape {shape} has {len(content)} bytes")
    return np.frombuffer(content, kind).reshape(shape)


# ---------------------------------------------------------------- tables


def _table(data: bytes, budget: Budget) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of a table in LevelDB's format."""
    footer = data[-_FOOTER_SIZE:]
    if len(footer) < _FOOTER_SIZE or not footer.endswith(TABLE_MAGIC):
        raise _DamageError("it does not end as a table does")
    at = 0
    handles = []
    for _ in range(4):
        number, at = _varint(footer, at)
        handles.append(number)
    # The first two are of the meta index, which says nothing of the content.
    for _, handle in _block(data, handles[2], handles[3], budget):
        start, at = _varint(handle, 0)
        size, _ = _varint(handle, at)
        yield from _block(data, start, size, budget)


def _block(data: bytes, start: int, size: int, budget: Budget) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a block, where a key leaves out its common start with the last one."""
    end = start + size
    if end + _TRAILER_SIZE > len(data) or size < 4:
        raise _DamageError("it ends within a block")
    budget.take(size)
    (checksum,) = struct.unpack_from("<I", data, end + 1)
    if checksum != masked_crc32c(data[start : end + 1]):
        raise _DamageError("the checksum of a block does not match")
    if data[end] != _NO_COMPRESSION:
        raise _DamageError("it is compressed, which TensorFlow's own checkpoints are not")
    block = data[start:end]
    (num_restarts,) = struct.unpack_from("<I", block, size - 4)
    limit = size - 4 - 4 * num_restarts
    key, at = b"", 0
    while at < limit:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or at + unshared + length > limit:
            raise _DamageError("it ends within an entry")
        if shared + unshared > _MAX_KEY_BYTES:
            raise _DamageError(f"a name has {shared + unshared} bytes")
        budget.take(shared + unshared + length)
        key = key[:shared] + block[at : at + unshared]
        at += unshared
        yield key, block[at : at + length]
        at += length


# ---------------------------------------------------------------- CRC-32C


def _crc_table() -> np.ndarray:
    state = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        state = np.where(state & 1, state >> 1 ^ np.uint32(0x82F63B78), state >> 1)
    return state


_CRC_TABLE = _crc_table()


def masked_crc32c(data: bytes | memoryview) -> int:
    """Compute the CRC-32C (Castagnoli) of bytes, masked as LevelDB stores it.

    The bytes are split into about as many lanes as each is long, which NumPy processes in parallel.
    A checksum is linear: a lane applies one 32×32 bit matrix to the checksum of those before it,
    and 32 more lanes of zeros compute that matrix.
    """
    lanes = max(1, math.isqrt(len(data)))
    length = len(data) // lanes
    body = np.zeros((length, lanes + 32), np.uint8)
    body[:, :lanes] = np.frombuffer(data, np.uint8, lanes * length).reshape(lanes, length).T
    state = np.zeros(lanes + 32, np.uint32)
    state[0] = 0xFFFFFFFF
    state[lanes:] = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for row in body:
        state = _CRC_TABLE[(state ^ row) & 255] ^ (state >> 8)
    matrix = state[lanes:].tolist()
    crc, *others = state[:lanes].tolist()
    for other in others:
        advanced = 0
        for bit, column in enumerate(matrix):
            if crc >> bit & 1:
                advanced ^= column
        crc = advanced ^ other
    table = _CRC_TABLE.tolist()
    for byte in data[lanes * length :]:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
