from __future__ import annotations

import gzip
import io
import resource
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from featplug.io.limits import Budget, LimitError, gunzip, inflate, open_zip, read_npz

CONTENT = np.random.default_rng(0).bytes(3_000_000) + bytes(3_000_000)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def zip_bomb(path: Path, num_bytes: int, name: str = "a.npy") -> Path:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as file,
    ):
        for _ in range(num_bytes >> 20):
            file.write(bytes(2**20))
    return path


def test_a_budget_counts_bytes_and_parts() -> None:
    budget = Budget(1000, 3)
    budget.take(1000)
    with pytest.raises(LimitError, match="unpacks to more than"):
        budget.take(1)
    budget = Budget(1000, 3)
    budget.take(items=3)
    with pytest.raises(LimitError, match="more than 3 parts"):
        budget.take()
    with pytest.raises(LimitError, match="-1 bytes"):
        budget.take(-1)


def test_a_stream_is_unpacked_if_it_has_the_size_that_it_announces() -> None:
    packed = zlib.compress(CONTENT)
    assert inflate(packed, len(CONTENT)) == CONTENT
    assert inflate(zlib.compress(b""), 0) == b""
    with pytest.raises(LimitError, match="unpacks to more than the 5999999 bytes"):
        inflate(packed, len(CONTENT) - 1)
    with pytest.raises(ValueError, match="6000000 of 6000001 bytes"):
        inflate(packed, len(CONTENT) + 1)
    with pytest.raises(ValueError, match=r"of 6000000 bytes"):
        inflate(packed[:-2], len(CONTENT))
    with pytest.raises(ValueError, match="cannot be unpacked"):
        inflate(packed[:-4] + b"none", len(CONTENT))


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb_of_zeros = zip_bomb(tmp_path / "bomb.npz", 2**27)
    before = peak_mb()
    bomb = zlib.compress(bytes(2**27))
    grown = peak_mb() - before  # by the zeros that were packed
    with pytest.raises(LimitError):
        inflate(bomb, 1000)
    with gzip.open(tmp_path / "bomb.gz", "wb") as file:
        for _ in range(128):
            file.write(bytes(2**20))
    with pytest.raises(LimitError, match=r"more than 1\.0 MB"):
        gunzip(tmp_path / "bomb.gz", 10**6)
    with pytest.raises(LimitError), open_zip(bomb_of_zeros, 10**6):
        pass
    with pytest.raises(LimitError):
        read_npz(bomb_of_zeros, 10**6)
    assert peak_mb() - before < grown + 50


def test_gzip_is_unpacked_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    whole = gzip.compress(CONTENT[:1000]) + gzip.compress(CONTENT[1000:])
    path.write_bytes(whole)
    assert gunzip(path).read() == CONTENT
    for damaged in (whole[:-9], b"hello", whole[:-8] + bytes(8)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="cannot be unpacked"):
            gunzip(path)


def test_members_are_counted_before_they_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20):
            archive.writestr(str(number), b"")
    with open_zip(path, max_items=20) as archive:
        assert len(archive.namelist()) == 20
    with pytest.raises(LimitError, match="more than 19 parts"), open_zip(path, max_items=19):
        pass


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    with pytest.raises(ValueError, match="two members a"), open_zip(path):
        pass


def test_npz_is_read_as_numpy_reads_it(tmp_path: Path) -> None:
    arrays = {
        "rows": np.arange(12.0, dtype=np.float32).reshape(3, 4),
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "scalar": np.array(2.5),
        "none": np.zeros((0, 128)),
        "text": np.array(["a", "bc"]),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        found = read_npz(tmp_path / "a.npz")
        assert list(found) == list(arrays)
        for key, value in arrays.items():
            np.testing.assert_array_equal(found[key], value)
            assert found[key].dtype == value.dtype


def npy(shape: str, descr: str = "'<f4'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


@pytest.mark.parametrize(
    "member",
    [
        npy(f"({2**40},)"),
        npy(f"({2**62}, 4)"),
        npy("(-1,)") + bytes(4),
        npy("(2,)") + bytes(9),
        npy("(1,)", "'|O'") + bytes(8),
        npy("(1,)", "'V1000000000'") + bytes(8),
        npy("((((((1,)"),
        b"\x93NUMPY\x09\x00",
        b"hello",
        b"",
    ],
)
def test_an_array_that_announces_what_is_not_there_is_rejected(
    tmp_path: Path, member: bytes
) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", member)
    with pytest.raises(ValueError, match=r"a\.npy|magic"):
        read_npz(path)


def test_a_damaged_npz_never_gives_another_error(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, keypoints=np.ones((50, 3)), descriptors=np.eye(50))
    whole = buffer.getvalue()
    generator = np.random.default_rng(0)
    path, num_errors = tmp_path / "a.npz", 0
    for trial in range(200):
        content = bytearray(whole)
        for position in generator.integers(0, len(content), 1 + trial % 8):
            content[position] ^= 1 << generator.integers(8)
        path.write_bytes(content[: generator.integers(len(content))] if trial % 3 == 0 else content)
        try:
            read_npz(path)
        except ValueError:
            num_errors += 1
    assert num_errors > 100
