"""Feature parts: written whole or not at all, read as one file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from featplug.io.artifact import Provenance
from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.parts.feature_parts import FeatureParts, FeaturePartWriter, open_features
from featplug.io.parts.part_files import part_file, part_identity, part_keys
from featplug.io.store import FeatureReader, FeatureWriter

MADE_BY = Provenance("features", {"model": {"name": "sift"}})


def features(seed: int, num: int = 20) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "keypoints": rng.uniform(0, 100, (num, 2)).astype(np.float32),
        "scores": rng.uniform(size=num).astype(np.float32),
        "descriptors": rng.normal(size=(8, num)).astype(np.float16),
    }


def write(writer: FeatureWriter, name: str, seed: int) -> None:
    writer.write(name, features(seed), (100, 80), 0.5, "ab")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for shard in (0, 1):
        made_by = replace(MADE_BY, inputs={"images": str(shard)})
        with FeaturePartWriter(part_file(tmp_path, (shard,), ".h5"), made_by) as writer:
            for row in (0, 1):
                write(writer, f"dir/{2 * shard + row}.jpg", 2 * shard + row)
    return tmp_path


def test_parts_are_read_as_one_file(folder: Path, tmp_path: Path) -> None:
    with FeatureWriter(tmp_path / "all.h5", MADE_BY) as writer:
        for seed in range(4):
            write(writer, f"dir/{seed}.jpg", seed)
    with open_features(folder) as parts, open_features(tmp_path / "all.h5") as whole:
        assert isinstance(parts, FeatureParts)
        assert parts.names() == whole.names() == [f"dir/{seed}.jpg" for seed in range(4)]
        assert parts.method == "sift"
        for name in whole.names():
            assert name in parts
            assert parts.image_size(name) == (100, 80)
            assert parts.uncertainty(name) == 0.5
            assert parts.shapes(name) == whole.shapes(name)
            expected = whole.read(name)
            found = parts.read(name)
            assert found.keys() == expected.keys()
            for key, array in expected.items():
                np.testing.assert_array_equal(found[key], array)
                assert found[key].dtype == array.dtype
        assert "dir/4.jpg" not in parts
        with pytest.raises(UnusableDataError, match=r"'dir/4\.jpg'"):
            parts.read("dir/4.jpg")


def test_a_part_is_in_hlocs_layout(folder: Path) -> None:
    with h5py.File(folder / "part-00001.h5") as file:
        assert set(file["dir"]) == {"2.jpg", "3.jpg"}
        np.testing.assert_array_equal(file["dir/3.jpg/keypoints"], features(3)["keypoints"])
    with FeatureReader(folder / "part-00001.h5") as reader:
        assert reader.names() == ["dir/2.jpg", "dir/3.jpg"]


def test_nothing_is_left_of_a_part_that_is_not_whole(folder: Path) -> None:
    before = (folder / "part-00001.h5").read_bytes()

    def interrupted() -> None:
        with FeaturePartWriter(folder / "part-00001.h5", MADE_BY) as writer:
            write(writer, "x.jpg", 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (folder / "part-00001.h5").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["part-00000.h5", "part-00001.h5"]


def test_two_writers_of_one_part_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = part_file(tmp_path, (7,), ".h5")
    with FeaturePartWriter(path, MADE_BY) as writer:
        write(writer, "a.jpg", 0)
        with FeatureWriter(tmp_path / "elsewhere.h5", MADE_BY) as other:
            write(other, "a.jpg", 0)
        path.write_bytes((tmp_path / "elsewhere.h5").read_bytes())  # as another machine would
    with FeatureReader(path) as reader:
        np.testing.assert_array_equal(reader.keypoints("a.jpg"), features(0)["keypoints"])
    assert part_keys(tmp_path, ".h5") == {(7,): path}


def test_a_part_has_the_same_identity_wherever_it_is_made() -> None:
    again = replace(MADE_BY, version="0.9", commit="c", file_id="other")
    assert part_identity(MADE_BY) == part_identity(again)
    assert part_identity(MADE_BY) != part_identity(replace(MADE_BY, inputs={"images": "1"}))


def test_a_missing_and_a_damaged_part_are_named(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no part-"):
        FeatureParts(folder / "none")
    (folder / "part-00000.h5").write_bytes(b"\0" * 2000)
    with pytest.raises(UnusableDataError, match=r"part-00000\.h5"):
        open_features(folder)
