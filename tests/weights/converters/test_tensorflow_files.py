"""TensorFlow's files: what is read, checksums, damaged files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featplug.weights.converters.tensorflow_files import (
    TABLE_MAGIC,
    GraphNode,
    masked_crc32c,
    read_bundle,
    read_graph,
)
from tests.weights.converters import tensorflow_writer as writer


def variables() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    arrays = {
        f"scope/conv{index}/kernel": generator.normal(size=(3, 2, index + 1)).astype(np.float32)
        for index in range(40)
    }
    arrays["global_step"] = np.array(400_000, np.int64)
    arrays["half"] = np.array([0.5, -2], np.float16)
    arrays["empty"] = np.zeros((0, 3), np.float32)
    return arrays


def read(index: bytes, data: bytes, **options: object) -> dict[str, np.ndarray]:
    suffixes = []

    def read_data(suffix: str) -> bytes:
        suffixes.append(suffix)
        return data

    arrays = read_bundle(index, read_data, "model.index", **options)
    assert suffixes in ([], [".data-00000-of-00001"])  # each data file once
    return arrays


def assert_same(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(actual) == set(expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        np.testing.assert_array_equal(actual[name], array, strict=True)


def refusal(function: Callable[[], object]) -> str:
    """The message with which a file is refused, empty if it is read."""
    try:
        function()
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("size", [0, 1, 9, 1000, 1023])
def test_checksum_equals_the_bitwise_definition(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    crc ^= 0xFFFFFFFF
    assert masked_crc32c(data) == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def test_checksum_of_the_standard() -> None:
    # RFC 3720, B.4: the CRC-32C of "123456789" is E3069283, of 32 zeros 8A9136AA.
    for data, crc in ((b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA)):
        assert masked_crc32c(data) == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def test_checkpoint_of_several_blocks_is_read() -> None:
    arrays = variables()
    text = writer.number(1, 7) + writer.number(5, 3)  # a variable of strings
    index, data = writer.bundle(arrays, {"words": text})
    assert_same(read(index, data), arrays)


def test_only_wanted_variables_are_read() -> None:
    arrays = variables()
    index, data = writer.bundle(arrays)
    kept = read(index, data, select=lambda name: name.endswith("7/kernel"))
    assert sorted(kept) == [f"scope/conv{n}/kernel" for n in (17, 27, 37, 7)]
    assert read(index, b"", select=lambda _: False) == {}


def test_damaged_checkpoint_is_refused() -> None:
    index, data = writer.bundle(variables())
    for position in range(0, len(index) - 60, 97):
        damaged = bytearray(index)
        damaged[position] ^= 16
        refused = refusal(lambda content=bytes(damaged): read(content, data))
        # Only the meta index, which nothing reads, may differ.
        assert refused.startswith("model.index is damaged or no") or position > len(index) - 200
    for length in (0, 10, 47, 48, len(index) // 2, len(index) - 1):
        with pytest.raises(ValueError, match=r"model\.index.*download it again"):
            read(index[:length], data)
    with pytest.raises(ValueError, match=r"checksum.*scope/conv\d+/kernel"):
        read(index, data[:100] + bytes([data[100] ^ 1]) + data[101:])
    with pytest.raises(ValueError, match="data file ends before"):
        read(index, data[:-1])


def test_big_endian_checkpoint_is_refused() -> None:
    header = writer.number(1, 1) + writer.number(2, 1)
    with pytest.raises(ValueError, match="little-endian"):
        read(writer.table({"": header}), b"")


def test_compressed_checkpoint_is_refused() -> None:
    block = bytes(4) + b"\1"  # no entries, compressed with Snappy by its last byte
    content = block + masked_crc32c(block).to_bytes(4, "little")
    footer = (b"\0\0\0\4").ljust(40, b"\0") + TABLE_MAGIC
    with pytest.raises(ValueError, match="is compressed"):
        read(content + footer, b"")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (writer.chunk(5, np.array([1, 2, 3], "<f4").tobytes()), [1, 2, 3]),
        (writer.varint(5 << 3 | 5) + np.array(2.5, "<f4").tobytes(), [2.5, 2.5, 2.5]),
        (b"", [0, 0, 0]),
    ],
)
def test_typed_values_of_a_constant(fields: bytes, expected: list[float]) -> None:
    tensor = writer.number(1, 1) + writer.chunk(2, writer.shape_message([3])) + fields
    graph = writer.node("c", "Const", (), {"value": writer.chunk(8, tensor)})
    value = read_graph(graph, "graph.pb")["c"].value
    assert value is not None
    np.testing.assert_array_equal(value, np.array(expected, np.float32), strict=True)


def test_integers_and_halves_of_a_constant() -> None:
    halves = np.array([0.5, -2], np.float16)
    fields = {
        "i": (9, writer.number(10, -7), np.array([-7, -7])),
        "b": (10, writer.chunk(11, b"\1\0"), np.array([True, False])),
        "h": (19, writer.chunk(13, b"".join(map(writer.varint, halves.view("u2")))), halves),
    }
    for name, (dtype, values, expected) in fields.items():
        tensor = writer.number(1, dtype) + writer.chunk(2, writer.shape_message([2])) + values
        graph = writer.node(name, "Const", (), {"value": writer.chunk(8, tensor)})
        value = read_graph(graph, "graph.pb")[name].value
        assert value is not None
        np.testing.assert_array_equal(value, expected, strict=True)


def test_graph_is_read() -> None:
    arrays = {"conv/kernel": np.ones((3, 3, 1, 2), np.float32), "scalar": np.array(3, np.int32)}
    words = writer.number(1, 7) + writer.chunk(8, "text")
    graph = writer.frozen_graph(arrays)
    graph += writer.node("words", "Const", (), {"value": writer.chunk(8, words)})
    attributes = {"epsilon": writer.float_attribute(0.5), "T": writer.number(6, 1)}
    graph += writer.node("bn", "FusedBatchNorm", ["x", "y"], attributes)
    nodes = read_graph(graph, "graph.pb")
    for name, array in arrays.items():
        np.testing.assert_array_equal(nodes[name].value, array, strict=True)
    assert nodes["words"].value is None
    assert nodes["conv/kernel/read"].inputs == ["conv/kernel"]
    assert nodes["bn"] == GraphNode("FusedBatchNorm", ["x", "y"], {"epsilon": 0.5})


def test_damaged_graph_is_refused() -> None:
    graph = writer.frozen_graph({"a": np.ones((5, 7), np.float32)})
    for content in (b"", b"<html>", bytes(100), graph[:-30], graph[:40], b"\x80\x02junk" * 9):
        with pytest.raises(ValueError, match=r"graph\.pb.*download it again"):
            read_graph(content, "graph.pb")
    short = writer.constant("a", np.ones(3, np.float32)).replace(bytes([2, 8, 3]), b"\2\x08\4")
    with pytest.raises(ValueError, match=r"of shape \(4,\) has 12 bytes"):
        read_graph(short, "graph.pb")
    huge = writer.number(1, 1) + writer.chunk(2, writer.shape_message([2**40, 2**30]))
    with pytest.raises(ValueError, match=r"graph\.pb.*unpacks to more than"):
        read_graph(writer.node("a", "Const", (), {"value": writer.chunk(8, huge)}), "graph.pb")


GRAPH = writer.frozen_graph(
    {"bn/moving_variance": np.ones(3, np.float32), "i": np.array([4, 5], np.int64)}
)
INDEX, DATA = writer.bundle({"a": np.ones(3, np.float32), "b": np.zeros((2, 2), np.float64)})


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(GRAPH) - 1), byte=st.integers(0, 255), end=st.integers(0, 400))
def test_no_damage_of_a_graph_fails_otherwise(at: int, byte: int, end: int) -> None:
    damaged = bytearray(GRAPH)
    damaged[at] = byte
    for content in (bytes(damaged), bytes(damaged[: end % len(GRAPH)])):
        refused = refusal(lambda content=content: read_graph(content, "graph.pb"))
        assert refused == "" or refused.startswith("graph.pb is damaged")


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(INDEX) - 1), byte=st.integers(0, 255))
def test_no_damage_of_a_checkpoint_fails_otherwise(at: int, byte: int) -> None:
    damaged = bytearray(INDEX)
    damaged[at] = byte
    refused = refusal(lambda: read_bundle(bytes(damaged), lambda _: DATA, "model.index"))
    assert refused == "" or refused.startswith("model.index is damaged")


@settings(max_examples=200, deadline=None)
@given(entry=st.binary(max_size=40), header=st.binary(max_size=20))
def test_no_entry_of_a_checkpoint_fails_otherwise(entry: bytes, header: bytes) -> None:
    """Entries with right checksums and any content."""
    good = writer.number(1, 1) + writer.chunk(3, writer.number(1, 1))
    for content in ({"": good, "a": entry}, {"": header, "a": entry}):
        index = writer.table(content)
        refused = refusal(lambda index=index: read_bundle(index, lambda _: DATA, "model.index"))
        assert refused == "" or refused.startswith("model.index is damaged")
