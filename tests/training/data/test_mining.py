"""Label mining: HOG by a literal formula, clusters, and which patches are distractors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from featplug.io.artifact import Provenance
from featplug.io.h5file import H5Writer
from featplug.training.data.mining import (
    MinedLabels,
    MiningOptions,
    appearance,
    cluster,
    hog,
)
from featplug.training.data.patch_batches import PatchBatchOptions, PatchGroupBatches
from featplug.training.data.patch_groups import PatchGroups
from featplug.training.data.patch_views import PatchGroupOptions
from tests.scenes.pictures import write_textured_images


def literal_hog(image: np.ndarray) -> np.ndarray:
    """HOG of Felzenszwalb et al. with one pixel, cell and block at a time."""
    height, width = image.shape
    rows, columns = height // 8, width // 8
    padded = np.pad(image, 1, mode="edge")
    cells = np.zeros((rows, columns, 18))
    for y in range(height):
        for x in range(width):
            dx = (padded[y + 1, x + 2] - padded[y + 1, x]) / 2
            dy = (padded[y + 2, x + 1] - padded[y, x + 1]) / 2
            projections = [
                dx * np.cos(np.pi * k / 9) + dy * np.sin(np.pi * k / 9) for k in range(18)
            ]
            for i in range(rows):
                for j in range(columns):
                    share = max(0, 1 - abs(y - (8 * i + 3.5)) / 8)
                    share *= max(0, 1 - abs(x - (8 * j + 3.5)) / 8)
                    cells[i, j, np.argmax(projections)] += share * np.hypot(dx, dy)
    undirected = cells[..., :9] + cells[..., 9:]
    energy = np.pad((undirected**2).sum(-1), 1, mode="edge")
    features = np.zeros((rows, columns, 31))
    for i in range(rows):
        for j in range(columns):
            for block in range(4):
                y, x = i + block // 2, j + block % 2
                norm = np.sqrt(energy[y : y + 2, x : x + 2].sum() + 1e-8)
                directed = np.minimum(cells[i, j] / norm, 0.2)
                features[i, j, :18] += directed / 2
                features[i, j, 18:27] += np.minimum(undirected[i, j] / norm, 0.2) / 2
                features[i, j, 27 + block] = directed.sum() / np.sqrt(18)
    return features


def test_hog_equals_literal_formula() -> None:
    images = torch.rand(2, 16, 24, generator=torch.Generator().manual_seed(0)).double()
    expected = np.stack([literal_hog(image) for image in images.numpy()])
    np.testing.assert_allclose(hog(images).numpy(), expected, atol=1e-9)


def test_hog_of_flat_and_brighter_patches() -> None:
    image = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(hog(image), hog(0.3 * image + 0.5), rtol=0, atol=1e-4)
    assert (hog(torch.full((1, 64, 64), 0.4)) == 0).all()


def test_features_have_the_papers_dimensions() -> None:
    patches = np.random.default_rng(0).integers(256, size=(150, 48, 48)).astype(np.uint8)
    features = appearance(patches)
    assert features.shape == (150, 8 * 8 * 31 + 16 * 16)
    other = patches.copy()
    other[:, :8] = 0  # outside of the window that is described
    np.testing.assert_array_equal(appearance(other), features)
    np.testing.assert_array_equal(appearance(patches[140:]), features[140:])
    assert appearance(patches[:0]).shape == (0, 2240)


def test_clusters_of_three_heaps() -> None:
    rng = np.random.default_rng(0)
    heaps = np.array([[0.0, 0], [0, 4], [50, 0]])
    truth = rng.integers(3, size=60)
    data = (heaps[truth] + rng.normal(scale=0.3, size=(60, 2))).astype(np.float32)
    clusters, far = cluster(data, MiningOptions(num_clusters=3, percentile=40))
    are_far = far[np.ix_(clusters, clusters)]
    third = truth == 2
    np.testing.assert_array_equal(are_far, third[:, None] != third)
    again, _ = cluster(data, MiningOptions(num_clusters=3, percentile=40))
    np.testing.assert_array_equal(again, clusters)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_clusters_of_few_and_of_equal_features(count: int) -> None:
    clusters, far = cluster(np.ones((count, 4), np.float32), MiningOptions())
    assert clusters.tolist() == [0] * count
    assert not far.any()


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> PatchGroups:
    folder = tmp_path_factory.mktemp("mining")
    names = write_textured_images(folder / "photographs", 2, width=200, height=150)
    options = PatchGroupOptions(num_views=3, max_groups=60)
    for _ in PatchGroups.make(folder / "photographs", folder / "g.h5", names, options, 0):
        pass
    return PatchGroups(folder / "g.h5")


def test_only_what_looks_alike_in_one_photograph_is_ignored(
    groups: PatchGroups, tmp_path: Path
) -> None:
    names = groups.names()
    path, options = tmp_path / "mined.h5", MiningOptions(num_clusters=20)
    run = MinedLabels.make(groups, path, options)
    next(run)
    run.close()
    with pytest.raises(ValueError, match=r"mined\.h5.*001\.png"):
        PatchGroupBatches(groups, mined=MinedLabels(path))
    assert list(MinedLabels.make(groups, path, options)) == names
    mined = MinedLabels(path)

    batches = PatchBatchOptions(batch_size=100, photographs=2)
    plain = PatchGroupBatches(groups, options=batches)[0]
    batch = PatchGroupBatches(groups, options=batches, mined=mined)[0]
    affinity = batch["affinity"]
    assert torch.equal(plain["patches"], batch["patches"])
    assert torch.equal(affinity == 1, plain["affinity"] == 1)
    assert torch.equal(affinity, affinity.T)
    assert (affinity[:50, 50:] == -1).all()  # of two photographs
    ignored = affinity[:50, :50] == 0
    assert 0.05 < ignored.float().mean() < 0.6
    features = torch.from_numpy(appearance(batch["patches"][:50].numpy()))
    distances = torch.cdist(features, features)
    distractors = affinity[:50, :50] == -1
    assert distances[ignored].mean() < distances[distractors].mean() - 0.5
    # A whole file takes nothing, though another training has it open.
    assert list(MinedLabels.make(groups, path, options)) == names


def test_labels_of_other_patches_are_rejected(groups: PatchGroups, tmp_path: Path) -> None:
    path = tmp_path / "mined.h5"
    with H5Writer(path, Provenance("mined labels", {}, inputs={"patch_groups": "another"})):
        pass
    with pytest.raises(ValueError, match=r"mined\.h5.*mine labels"):
        PatchGroupBatches(groups, mined=MinedLabels(path))
    with pytest.raises(ValueError, match=r"mined\.h5"):
        next(MinedLabels.make(groups, path))
    with pytest.raises(ValueError, match=r"g\.h5.*mined labels"):
        MinedLabels(groups.path)
