"""Parts of verified pairs: what is written is read, and any program that reads Parquet reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from featplug.io.artifact import Provenance
from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.parts import verified_parts
from featplug.io.parts.part_files import part_file, read_part_record
from featplug.io.parts.verified_parts import (
    VerifiedPair,
    VerifiedParts,
    open_matches_or_inliers,
    read_verified_part,
    write_verified_part,
)

MADE_BY = Provenance("verified pairs", {"seed": 0})


def pairs(num: int) -> list[VerifiedPair]:
    """Pairs of which every third one has no geometry."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(num):
        names = "a.jpg", f"dir/{number}.jpg"
        if number % 3 == 2:
            none = np.zeros((0, 2), np.uint32)
            made.append(VerifiedPair(names, number, "DEGENERATE", none, {}, number % 2 == 0))
        else:
            inliers = rng.integers(0, 70_000, (20 + number, 2)).astype(np.uint32)
            matrices = {name: rng.normal(size=(3, 3)) for name in "EFH"[number % 3 :]}
            made.append(VerifiedPair(names, 99, "CALIBRATED", inliers, matrices))
    return made


def assert_equal(found: VerifiedPair, expected: VerifiedPair) -> None:
    assert found._replace(inliers=0, matrices={}) == expected._replace(inliers=0, matrices={})
    np.testing.assert_array_equal(found.inliers, expected.inliers)
    assert found.matrices.keys() == expected.matrices.keys()
    for name, matrix in expected.matrices.items():
        np.testing.assert_array_equal(found.matrices[name], matrix)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(verified_parts, "_CHUNK_ROWS", 3)  # several row groups
    monkeypatch.setattr(verified_parts, "_MAX_GROUPS", 1)
    made = pairs(9)
    for number, some in enumerate((made[:7], made[7:], [])):
        path = part_file(tmp_path / "verified", (0, number), ".parquet")
        write_verified_part(path, iter(some), MADE_BY, lambda: "{}")
    return tmp_path / "verified"


def test_pairs_are_read_as_they_were_written(folder: Path) -> None:
    reader = VerifiedParts(folder)
    read = list(reader.read_all())
    assert len(read) == 9
    for found, expected in zip(read, pairs(9), strict=True):
        assert_equal(found, expected)
    assert list(read_verified_part(folder / "part-00000-00002.parquet")) == []
    assert read_part_record(folder / "part-00000-00000.parquet")[1] == "{}"
    table = pq.read_table(folder / "part-00000-00000.parquet")
    assert table["config"].to_pylist()[:3] == ["CALIBRATED", "CALIBRATED", "DEGENERATE"]
    assert table["inliers1"].to_pylist()[0] == pairs(1)[0].inliers[:, 1].tolist()


def test_inliers_are_read_as_matches(folder: Path) -> None:
    with open_matches_or_inliers(folder) as reader:
        names = ["a.jpg", "dir/3.jpg", "dir/2.jpg"]
        found, others = reader.pairs(names)
        assert found == [("a.jpg", "dir/2.jpg"), ("a.jpg", "dir/3.jpg")]
        assert len(others) == 7
        expected = pairs(9)[3].inliers
        np.testing.assert_array_equal(reader.read("a.jpg", "dir/3.jpg")[0], expected)
        np.testing.assert_array_equal(reader.read("dir/3.jpg", "a.jpg")[0], expected[:, ::-1])
        assert ("dir/3.jpg", "a.jpg") in reader
        with pytest.raises(ValueError, match=r"part-00000-00000\.parquet.*verify again"):
            reader.read("a.jpg", "dir/3.jpg", (5, 5))
        with pytest.raises(UnusableDataError, match="verify the pair"):
            reader.read("a.jpg", "none.jpg")


def test_damage_is_noticed(folder: Path, tmp_path: Path) -> None:
    path = folder / "part-00000-00000.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UnusableDataError, match=r"part-00000-00000\.parquet"):
        list(VerifiedParts(folder).read_all())
    with pytest.raises(FileNotFoundError, match="none has no part"):
        VerifiedParts(tmp_path / "none")


def test_nothing_is_left_of_a_part_whose_pairs_fail(tmp_path: Path) -> None:
    def fail() -> object:
        yield pairs(1)[0]
        raise ValueError("a pair is damaged")

    with pytest.raises(ValueError, match="a pair is damaged"):
        write_verified_part(tmp_path / "part-00000-00000.parquet", fail(), MADE_BY, str)
    assert list(tmp_path.iterdir()) == []
