"""A run that was stopped resumes where it was stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.patches.described import describe
from benchmarks.patches.descriptors import PatchDescriptor
from benchmarks.patches.hpatches import HPatches

WEIGHTS = {"name": "net", "origin": "file", "sha256": "0" * 64}


class Rows:
    """Describes by the patches' first rows, counts calls, and stops after some."""

    def __init__(self, calls_until_stopped: int = 1_000) -> None:
        self.calls, self.left = 0, calls_until_stopped

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        if self.left == 0:
            raise KeyboardInterrupt
        self.calls, self.left = self.calls + 1, self.left - 1
        return patches[:, 0].astype(np.float32)


def test_only_what_is_missing_is_described_again(sets: Path, tmp_path: Path) -> None:
    patch_set = HPatches(sets / "hpatches")
    expected = np.concatenate([patches[:, 0] for patches in patch_set.patches()])
    with pytest.raises(KeyboardInterrupt):
        describe(PatchDescriptor("net", Rows(5), [WEIGHTS]), patch_set, tmp_path)
    (file,) = tmp_path.iterdir()
    with file.open("ab") as opened:
        opened.write(b"half a row")
    rest = Rows()
    result, num_kept = describe(PatchDescriptor("net", rest, [WEIGHTS]), patch_set, tmp_path)
    assert rest.calls == 2 * 16 - 5
    assert num_kept == 5 * 10
    np.testing.assert_array_equal(result, expected)
    again = Rows()
    kept, num_kept = describe(PatchDescriptor("net", again, [WEIGHTS]), patch_set, tmp_path)
    assert again.calls == 0
    assert num_kept == len(kept)
    np.testing.assert_array_equal(kept, expected)


def test_other_weights_and_other_data_are_described_again(sets: Path, tmp_path: Path) -> None:
    patch_set = HPatches(sets / "hpatches")
    describe(PatchDescriptor("net", Rows(), [WEIGHTS]), patch_set, tmp_path)
    others = Rows()
    changed = {**WEIGHTS, "sha256": "1" * 64}
    describe(PatchDescriptor("net", others, [changed]), patch_set, tmp_path)
    assert others.calls == 32
    patch_set.sizes = {"v_turned": 10}
    fewer = Rows()
    describe(PatchDescriptor("net", fewer, [WEIGHTS]), patch_set, tmp_path)
    assert fewer.calls == 16


def test_functions_of_the_users_are_always_called(sets: Path, tmp_path: Path) -> None:
    patch_set = HPatches(sets / "hpatches")
    for _ in range(2):
        own = Rows()
        describe(PatchDescriptor("module:function", own), patch_set, tmp_path)
        assert own.calls == 32
    assert list(tmp_path.iterdir()) == []


def test_descriptors_of_different_lengths_are_rejected(sets: Path) -> None:
    lengths = iter(range(1, 100))
    descriptor = PatchDescriptor("net", lambda patches: np.zeros((len(patches), next(lengths))))
    with pytest.raises(ValueError, match="descriptors of different lengths"):
        describe(descriptor, HPatches(sets / "hpatches"))
