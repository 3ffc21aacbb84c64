"""RomePatches' files and its mean average precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from sklearn.metrics import average_precision_score

from benchmarks.patches.romepatches import RomePatches


def write_part(folder: Path, part: str, patches: np.ndarray, labels: list[list[int]]) -> None:
    savemat(folder / f"patch_retrieval_Rome_{part}.mat", {"patches": patches})
    savemat(
        folder / f"patch_retrieval_Rome_{part}_labels.mat",
        {"labels_gt": labels[0], "labels": labels[1]},
    )


def numbered(num: int) -> np.ndarray:
    return np.broadcast_to(np.arange(num, dtype=np.uint8)[:, None, None], (num, 51, 51))


def test_the_mean_is_that_of_scikit_learn(sets: Path) -> None:
    patch_set = RomePatches(sets / "romepatches")
    patches = np.concatenate(list(patch_set.patches()))
    assert patches.shape == (patch_set.num_patches(), 51, 51)
    descriptors = patches[:, ::17, ::17].reshape(len(patches), -1).astype(np.float32)
    parts = patch_set.measure(descriptors)
    start = 0
    for part, (query_labels, labels) in patch_set.labels.items():
        queries = descriptors[start : start + len(query_labels)]
        searched = descriptors[start + len(query_labels) :][: len(labels)]
        precisions = [
            average_precision_score(labels == label, -np.linalg.norm(searched - query, axis=1))
            for query, label in zip(queries, query_labels, strict=True)
        ]
        value = parts[part]["retrieval_map"]["value"]
        assert value == pytest.approx(np.mean(precisions), abs=1e-6)
        start += len(query_labels) + len(labels)
    assert patch_set.not_comparable is not None


@pytest.mark.parametrize("layout", ["first", "last", "flat", "fractions"])
def test_patches_are_read_however_the_array_is_laid_out(tmp_path: Path, layout: str) -> None:
    patches = numbered(6)
    stored = {
        "first": patches,
        "last": np.moveaxis(patches, 0, -1),
        "flat": patches.reshape(6, -1),
        "fractions": patches / 255,
    }[layout]
    write_part(tmp_path, "test", stored, [[7, 8], [8, 7, 7, 8]])
    patch_set = RomePatches(tmp_path)
    (read,) = patch_set.patches()
    np.testing.assert_array_equal(read, patches)
    (problem,) = patch_set.problems
    assert problem.subject == "rome-patches train"
    assert problem.reason.endswith("patch_retrieval_Rome_train.mat is missing.")
    descriptors = np.array([[7.0], [8], [8], [7], [7], [8]], np.float32)
    assert patch_set.measure(descriptors)["test"]["retrieval_map"]["value"] == 1


def test_bad_files_are_named(tmp_path: Path) -> None:
    write_part(tmp_path, "test", numbered(5), [[7, 8], [8, 7, 7, 8]])
    with pytest.raises(ValueError, match=r"Rome_test.mat"):
        list(RomePatches(tmp_path).patches())
    write_part(tmp_path, "test", numbered(6), [[7, 9], [8, 7, 7, 8]])
    with pytest.raises(ValueError, match=r"Rome_test_labels.mat"):
        RomePatches(tmp_path)
    (tmp_path / "patch_retrieval_Rome_test_labels.mat").write_bytes(b"MATLAB 5.0 no more")
    with pytest.raises(ValueError, match=r"Rome_test_labels.mat.*download"):
        RomePatches(tmp_path)


def test_damaged_patches_never_give_another_error(tmp_path: Path) -> None:
    write_part(tmp_path, "test", numbered(6), [[7, 8], [8, 7, 7, 8]])
    generator = np.random.default_rng(0)
    files = [tmp_path / f"patch_retrieval_Rome_test{end}.mat" for end in ("", "_labels")]
    whole = {file: file.read_bytes() for file in files}
    num_errors = 0
    for trial in range(200):
        for file in files:
            file.write_bytes(whole[file])
        content = bytearray(whole[files[trial % 2]])
        for position in generator.integers(0, 600, 3):
            content[position % len(content)] ^= 1 << generator.integers(8)
        files[trial % 2].write_bytes(content[: len(content) - trial % 3 * 100])
        try:
            list(RomePatches(tmp_path).patches())
        except ValueError as error:
            num_errors += 1
            assert "patch_retrieval_Rome" in str(error)  # noqa: PT017
    assert num_errors > 100


def test_patches_that_are_not_finite_are_named(tmp_path: Path) -> None:
    patches = numbered(6) / 255
    patches[2, 3, 4] = np.nan
    write_part(tmp_path, "test", patches, [[7, 8], [8, 7, 7, 8]])
    with pytest.raises(ValueError, match=r"Rome_test\.mat.*not finite.*download it again"):
        list(RomePatches(tmp_path).patches())
