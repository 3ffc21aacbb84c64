"""One file of parts: hloc's layout, copied or linked."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from featplug.io.match_store import MatchReader
from featplug.io.parts.consolidate import consolidate
from featplug.io.parts.match_parts import MatchPartWriter, open_matches
from featplug.io.parts.part_files import part_file
from featplug.io.store import FeatureReader
from tests.io.parts import test_match_parts
from tests.io.parts.test_feature_parts import features, folder  # noqa: F401


@pytest.mark.parametrize("links", [False, True])
def test_features_become_one_file(folder: Path, tmp_path: Path, links: bool) -> None:  # noqa: F811
    path = tmp_path / "elsewhere" / "feats.h5"
    assert consolidate(folder, path, links) == 4
    with h5py.File(path) as file:  # as hloc opens it
        np.testing.assert_array_equal(file["dir/3.jpg/keypoints"], features(3)["keypoints"])
        assert file["dir/0.jpg"].keys() == {"keypoints", "scores", "descriptors", "image_size"}
    with FeatureReader(path) as reader:
        assert reader.names() == [f"dir/{seed}.jpg" for seed in range(4)]
        assert reader.method == "sift"
        np.testing.assert_array_equal(
            reader.read("dir/2.jpg")["descriptors"], features(2)["descriptors"]
        )
    if links:
        (folder / "part-00001.h5").rename(folder / "gone.h5")
        with FeatureReader(path) as reader, pytest.raises(ValueError, match=r"part-00001\.h5"):
            reader.read("dir/2.jpg")


def test_matches_become_one_file(tmp_path: Path) -> None:
    pairs = [("dir/a.jpg", "b.jpg"), ("b.jpg", "d.jpg"), ("dir-c.jpg", "d.jpg")]
    parts = tmp_path / "parts"
    for key, some in (((0, 0), pairs[:1]), ((0, 1), pairs[1:])):
        path = part_file(parts, key, ".h5")
        with MatchPartWriter(path, test_match_parts.MADE_BY) as writer:
            test_match_parts.write(writer, some)
    assert consolidate(parts, tmp_path / "all.h5") == 3
    with MatchReader(tmp_path / "all.h5") as one, open_matches(parts) as packed:
        for pair in pairs:
            for found, expected in zip(one.read(*pair), packed.read(*pair), strict=True):
                np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="no link leads into"):
        consolidate(parts, tmp_path / "all.h5", links=True)
    with pytest.raises(FileNotFoundError, match="no part-"):
        consolidate(tmp_path / "none", tmp_path / "all.h5")
