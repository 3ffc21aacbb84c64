"""Packed match parts: the same matches as in hloc's layout, in less space."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import pytest

from featplug.io.artifact import Provenance
from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.match_store import MatchReader, MatchWriter
from featplug.io.parts import match_parts
from featplug.io.parts.match_parts import MatchPart, MatchParts, MatchPartWriter, open_matches
from featplug.io.parts.part_files import part_file

MADE_BY = Provenance("matches", {"model": {"name": "nn"}})
NAMES = ("dir/a.jpg", "b.jpg", "dir-c.jpg", "d.jpg")


def matches(seed: int, num0: int, num1: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    matches0 = np.full(num0, -1)
    chosen = rng.permutation(num0)[: min(num0, num1) // 3]
    matches0[chosen] = rng.permutation(num1)[: len(chosen)]
    scores = np.where(matches0 >= 0, rng.uniform(size=num0), 0).astype(np.float32)
    return matches0, scores


def num_keypoints(name: str) -> int:
    return 50 + 10 * NAMES.index(name)


def write(writer: MatchWriter | MatchPartWriter, pairs: list[tuple[str, str]]) -> None:
    for pair in pairs:
        num0, num1 = map(num_keypoints, pair)
        seed = NAMES.index(pair[0]) * 10 + NAMES.index(pair[1])
        writer.write(*pair, *matches(seed, num0, num1), num1)


@pytest.fixture
def pairs() -> list[tuple[str, str]]:
    return list(combinations(NAMES, 2))


def test_they_are_read_as_a_match_file(
    tmp_path: Path, pairs: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(match_parts, "_CHUNK_BYTES", 300)  # several chunks
    monkeypatch.setattr(match_parts, "_MAX_CHUNKS", 1)
    folder = tmp_path / "parts"
    for key, some in (((0, 0), pairs[:2]), ((0, 1), pairs[2:])):
        with MatchPartWriter(part_file(folder, key, ".h5"), MADE_BY) as writer:
            write(writer, some)
    with MatchWriter(tmp_path / "all.h5", MADE_BY) as whole:
        write(whole, pairs)
    with h5py.File(folder / "part-00000-00001.h5") as file:
        assert len(file) > 2
        assert file["chunk-00000/indices"].dtype == np.uint16
    with open_matches(folder) as parts, open_matches(tmp_path / "all.h5") as reader:
        assert isinstance(parts, MatchParts)
        assert not isinstance(reader, MatchParts)
        assert parts.all_pairs() == pairs
        for found, expected in zip(parts.pairs(NAMES[:3]), reader.pairs(NAMES[:3]), strict=True):
            assert sorted(found) == sorted(expected)
        for pair in [*pairs, *[p[::-1] for p in pairs]]:
            assert pair in parts
            numbers = tuple(map(num_keypoints, pair))
            for found, expected in zip(
                parts.read(*pair, numbers), reader.read(*pair, numbers), strict=True
            ):
                np.testing.assert_array_equal(found, expected)
                assert found.dtype == expected.dtype
        with pytest.raises(ValueError, match="other features"):
            parts.read(*pairs[0], (1, 2))
        with pytest.raises(UnusableDataError, match="no matches of"):
            parts.read("d.jpg", "e.jpg")
    read = [(m.names, m.indices) for _, p in MatchParts(folder).parts() for m in p.read_all()]
    assert [names for names, _ in read] == pairs


def test_images_of_many_keypoints_and_pairs_without_matches(tmp_path: Path) -> None:
    path = part_file(tmp_path, (0, 0), ".h5")
    num = 70_000
    matches0 = np.arange(num)[::-1].copy()
    with MatchPartWriter(path, MADE_BY) as writer:
        writer.write("a", "b", matches0, np.full(num, 1e5), num)
        writer.write("a", "c", np.full(num, -1), np.zeros(num), 0)
    with MatchPart(path) as part:
        first, second = part.read_all()
        np.testing.assert_array_equal(first.indices, np.stack([np.arange(num), matches0], 1))
        assert np.isfinite(first.scores).all()
        assert second.indices.shape == (0, 2)
        assert second.num_keypoints == (num, 0)
    with MatchPartWriter(part_file(tmp_path, (0, 1), ".h5"), MADE_BY):
        pass
    with MatchPart(part_file(tmp_path, (0, 1), ".h5")) as part:
        assert part.pairs() == []


def test_matches_take_a_third_of_hlocs_space(tmp_path: Path) -> None:
    num, pairs = 2048, 40
    rng = np.random.default_rng(0)
    with (
        MatchWriter(tmp_path / "hloc.h5", MADE_BY) as whole,
        MatchPartWriter(part_file(tmp_path, (0, 0), ".h5"), MADE_BY) as packed,
    ):
        for pair in range(pairs):
            matches0 = np.where(rng.uniform(size=num) < 0.2, rng.permutation(num), -1)
            for writer in (whole, packed):
                writer.write("a.jpg", f"{pair}.jpg", matches0, np.ones(num), num)
    size = (tmp_path / "part-00000-00000.h5").stat().st_size
    assert 3 * size < (tmp_path / "hloc.h5").stat().st_size
    with MatchReader(tmp_path / "hloc.h5") as reader, MatchParts(tmp_path) as parts:
        for found, expected in zip(
            parts.read("a.jpg", "7.jpg"), reader.read("a.jpg", "7.jpg"), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_damage_is_noticed(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    path = part_file(tmp_path, (0, 0), ".h5")
    with MatchPartWriter(path, MADE_BY) as writer:
        write(writer, pairs)
        with pytest.raises(UnusableDataError):
            writer.write("a", "b", np.array([5]), np.array([1.0]), 3)
    with h5py.File(path, "r+") as file:
        file["chunk-00000/offsets"][1] = 10**6
    with MatchPart(path) as part, pytest.raises(UnusableDataError, match="part-00000-00000"):
        list(part.read_all())
