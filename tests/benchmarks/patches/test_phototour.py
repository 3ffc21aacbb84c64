"""Sheets and pairs of UBC PhotoTour."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_curve

from benchmarks.patches import phototour
from benchmarks.patches.phototour import PAIRS, PhotoTour


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """300 patches in two sheets, each of one grey, that of its number modulo 256."""
    for sheet in range(2):
        picture = np.zeros((1024, 1024), np.uint8)
        for place in range(256):
            y, x = 64 * (place // 16), 64 * (place % 16)
            picture[y : y + 64, x : x + 64] = place
        Image.fromarray(picture).save(tmp_path / f"patches{sheet:04d}.bmp")
    (tmp_path / "info.txt").write_text("".join(f"{i // 3} 0\n" for i in range(300)))
    (tmp_path / PAIRS).write_text("0 0 0 2 0 0\n17 5 0 299 99 0\n16 5 0 17 5 0\n0 0 0 16 5 0\n")
    return tmp_path


def test_patches_are_found_on_their_sheets(folder: Path) -> None:
    patch_set = PhotoTour(folder)
    patches = np.concatenate(list(patch_set.patches()))
    assert patches.shape == (patch_set.num_patches(), 64, 64)
    assert patch_set.index.tolist() == [0, 2, 16, 17, 299]
    assert patches.min((1, 2)).tolist() == patches.max((1, 2)).tolist() == [0, 2, 16, 17, 299 - 256]
    assert patch_set.matching.tolist() == [True, False, True, False]
    # By grey: 2 and 1 for the pairs that match, 26 and 16 for the others.
    parts = patch_set.measure(patches.mean((1, 2))[:, None])
    assert parts["all"]["fpr95"]["value"] == 0
    wrong = patch_set.measure(np.array([[0.0], [9], [3], [8], [90]]))
    assert wrong["all"]["fpr95"]["value"] == 0.5


def test_the_rate_is_that_of_scikit_learn(sets: Path) -> None:
    patch_set = PhotoTour(sets / "phototour" / "synthetic")
    patches = np.concatenate(list(patch_set.patches()))
    descriptors = patches[:, ::16, ::16].reshape(len(patches), -1).astype(np.float32)
    distances = []
    for line in patch_set.pairs_file.read_text().splitlines():
        first, _, _, second, _, _ = map(int, line.split())
        a, b = (descriptors[np.searchsorted(patch_set.index, i)] for i in (first, second))
        distances.append(np.linalg.norm(a - b))
    fpr, tpr, _ = roc_curve(patch_set.matching, -np.array(distances), drop_intermediate=False)
    value = patch_set.measure(descriptors)["all"]["fpr95"]["value"]
    assert 0 < value < 1
    assert value == pytest.approx(fpr[tpr >= 0.95].min())


def test_the_list_that_is_reported_is_preferred_and_others_are_not_comparable(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(sets / "phototour" / "synthetic", tmp_path / "liberty"))
    num = len((folder / "info.txt").read_text().splitlines())
    assert PhotoTour(folder).not_comparable == (
        f"phototour-liberty has {num} patches and is not 450,092 patches."
    )
    monkeypatch.setattr(phototour, "NUM_PATCHES", {"liberty": num})
    assert PhotoTour(folder).not_comparable == (
        f"The pairs are from m50_120_120_0.txt, not from {PAIRS}."
    )
    shutil.copy(folder / "m50_120_120_0.txt", folder / PAIRS)
    whole = PhotoTour(folder)
    assert whole.not_comparable is None
    assert (whole.name, whole.pairs_file.name) == ("phototour-liberty", PAIRS)


def test_bad_files_are_named(folder: Path) -> None:
    (folder / "patches0001.bmp").unlink()
    with pytest.raises(FileNotFoundError, match=r"patches0001.bmp"):
        PhotoTour(folder)
    Image.fromarray(np.zeros((512, 1024), np.uint8)).save(folder / "patches0001.bmp")
    patch_set = PhotoTour(folder)
    with pytest.raises(ValueError, match=r"patches0001.bmp.*1024×1024"):
        list(patch_set.patches())
    (folder / PAIRS).write_text("0 0 0 300 100 0\n")
    with pytest.raises(ValueError, match=PAIRS):
        PhotoTour(folder)
    (folder / PAIRS).write_text("0 0\n")
    with pytest.raises(ValueError, match=PAIRS):
        PhotoTour(folder)
    (folder / PAIRS).unlink()
    with pytest.raises(FileNotFoundError, match=PAIRS):
        PhotoTour(folder)
