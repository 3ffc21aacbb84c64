"""Feature files that are given: images of another size, and damaged ones, are noticed."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from benchmarks.pairs.datasets import read_pairs, recognise
from benchmarks.pairs.extraction import extract_cached
from pipelines.run_options import FeatureOptions
from tests.scenes.sequences import write_hpatches


def test_features_of_another_size_and_damaged_images_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "planes"
    write_hpatches(folder, "v_plane")
    pair_set = read_pairs(folder, recognise(folder))
    file = tmp_path / "own.h5"
    extract_cached(FeatureOptions("sift"), pair_set, tmp_path, "sift")
    with h5py.File(tmp_path / "sift.h5") as source, h5py.File(file, "w") as own:
        for name in pair_set.names:  # as hloc writes them, without fingerprints
            group = own.create_group(name)
            for key in ("keypoints", "descriptors", "scores", "image_size"):
                group[key] = source[name][key][:]
        half = pair_set.names[1]
        size = own[half]["image_size"][:]
        own[half]["image_size"][:] = size // 2
    damaged = pair_set.names[2]
    content = (folder / damaged).read_bytes()
    (folder / damaged).write_bytes(content[: len(content) // 2])
    given = FeatureOptions(features=file)
    skipped = extract_cached(given, pair_set, tmp_path, "own").skipped
    assert set(skipped) == {half, damaged}
    width, height = np.asarray(size).tolist()
    assert f"with {width // 2}×{height // 2} pixels" in skipped[half]
    assert f"{width}×{height}; extract them" in skipped[half]
