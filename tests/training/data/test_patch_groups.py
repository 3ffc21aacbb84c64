"""Patch groups: patches as inference cuts them, a stop and a resume, batches, jitter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from featplug.io.images import read_image, to_grey
from featplug.keypoints.patches import gaussian_pyramid, sample_patches_from_pyramid
from featplug.training.data.batches import load_ahead
from featplug.training.data.frame_groups import warp_frames
from featplug.training.data.patch_batches import (
    PatchBatchOptions,
    PatchGroupBatches,
    count_patches,
)
from featplug.training.data.patch_groups import JitterOptions, PatchGroups, jitter_patches
from featplug.training.data.patch_views import PatchGroupOptions, find_patch_groups, render_view
from tests.scenes.pictures import write_textured_images

OPTIONS = PatchGroupOptions(num_views=4, max_groups=40, max_patches=3)
NO_JITTER = JitterOptions(max_angle=0, scale=0, anisotropy=0, shift=0)
KEYS = ("frames", "views", "groups", "patches", "patch_rows", "positions", "homographies", "seeds")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small photographs, one in a folder of its own."""
    folder = tmp_path_factory.mktemp("photographs")
    write_textured_images(folder, 3, width=200, height=150)
    write_textured_images(folder / "sub", 1, width=150, height=200)
    return folder


@pytest.fixture(scope="module")
def names() -> list[str]:
    return ["000.png", "001.png", "002.png", "sub/000.png"]


@pytest.fixture(scope="module")
def groups(
    photographs: Path, names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> PatchGroups:
    path = tmp_path_factory.mktemp("groups") / "groups.h5"
    assert list(PatchGroups.make(photographs, path, names, OPTIONS)) == names
    return PatchGroups(path)


def correlations(patches: np.ndarray) -> np.ndarray:
    """N×N, of all pairs of N patches."""
    return np.corrcoef(patches.reshape(len(patches), -1).astype(np.float64))


def test_a_whole_file_is_used_while_others_read_it(
    groups: PatchGroups, photographs: Path, names: list[str]
) -> None:
    assert groups.names() == names
    assert list(PatchGroups.make(photographs, groups.path, names, OPTIONS)) == names


def test_patches_are_what_inference_cuts(groups: PatchGroups, photographs: Path) -> None:
    for name in groups.names():
        frames, views, patches, rows, warps, seeds = groups.read(
            name, "frames", "views", "patches", "patch_rows", "homographies", "seeds"
        )
        assert len(patches) > 20
        image = read_image(photographs / name)
        image = np.repeat(image[..., None], 3, axis=-1) if image.ndim == 2 else image
        windows = jitter_patches(
            torch.from_numpy(patches), NO_JITTER, 32, torch.Generator().manual_seed(0)
        )
        for k, (warp, seed) in enumerate(zip(warps, seeds.tolist(), strict=True)):
            grey = to_grey(render_view(image, warp, seed, OPTIONS.photometric))
            chosen = np.flatnonzero(views[rows] == k)
            x, scales, oris = np.split(frames[rows[chosen]], [2, 3], axis=1)
            expected = sample_patches_from_pyramid(
                gaussian_pyramid(grey.astype(np.float32)), x, 12 * scales[:, 0], oris[:, 0], 32
            )
            for patch, wanted in zip(windows[chosen].numpy(), expected, strict=True):
                assert np.corrcoef(patch.ravel(), wanted.ravel())[0, 1] > 0.998


def test_groups_show_one_point(groups: PatchGroups) -> None:
    inside, between = [], []
    for name in groups.names():
        frames, views, labels, warps = groups.read(
            name, "frames", "views", "groups", "homographies"
        )
        common = np.empty((len(frames), 4))
        for k, warp in enumerate(warps):
            common[views == k] = warp_frames(frames[views == k], np.linalg.inv(warp))
        for label in range(labels.max() + 1):
            members = np.flatnonzero(labels == label)
            assert len(members) > 1
            assert len(np.unique(views[members])) == len(members)
            apart = np.linalg.norm(common[members, :2] - common[members[0], :2], axis=1)
            assert (apart < np.maximum(2.5, 0.5 * common[members[0], 2])).all()
        patches, rows, positions = groups.read(name, "patches", "patch_rows", "positions")
        of_patch = groups.labels(name)
        size = (150, 200) if name.startswith("sub") else (200, 150)
        np.testing.assert_allclose(
            (positions + 1) / 2 * size - 0.5, common[rows, :2], rtol=0, atol=1e-3
        )
        assert np.unique(of_patch, return_counts=True)[1].max() <= OPTIONS.max_patches
        assert len(np.unique(of_patch)) <= OPTIONS.max_groups
        middle = correlations(patches[:, 8:40, 8:40])
        same = of_patch[:, None] == of_patch
        inside.append(np.median(middle[same & ~np.eye(len(rows), dtype=bool)]))
        between.append(np.median(np.abs(middle[~same])))
    assert np.mean(inside) > 0.75
    assert np.mean(between) < 0.35


@pytest.mark.slow
def test_a_killed_run_leaves_the_file_free(
    groups: PatchGroups, photographs: Path, names: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "killed.h5"
    code = (
        "import time\nfrom tests.training.data.test_patch_groups import *\n"
        f"run = PatchGroups.make(Path({str(photographs)!r}), Path({str(path)!r}), {names!r},"
        " OPTIONS, num_workers=1)\n"
        "print(next(run), flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == names[0]
    process.kill()
    process.wait()
    assert PatchGroups(path).names() == names[:1]
    assert list(PatchGroups.make(photographs, path, names, OPTIONS, num_workers=0)) == names
    for name in names:
        mine, theirs = (source.read(name, *KEYS) for source in (PatchGroups(path), groups))
        for mine_array, their_array in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(mine_array, their_array)


@pytest.mark.slow
def test_bad_input(groups: PatchGroups, photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    shutil.copytree(photographs, folder)
    (folder / "001.png").write_bytes((folder / "001.png").read_bytes()[:2000])
    path = tmp_path / "groups.h5"
    for workers in (1, 0):
        with pytest.raises(ValueError, match=r"001\.png"):
            list(
                PatchGroups.make(folder, path, ["000.png", "001.png"], OPTIONS, num_workers=workers)
            )
    shutil.copy(folder / "002.png", folder / "000.png")
    with pytest.raises(ValueError, match=r"000\.png.*delete"):
        list(PatchGroups.make(folder, path, ["000.png"], OPTIONS))
    with pytest.raises(ValueError, match=r"groups\.h5.*seed"):
        list(PatchGroups.make(folder, path, ["000.png"], replace(OPTIONS, seed=1)))
    with pytest.raises(FileNotFoundError):
        PatchGroups(tmp_path / "none.h5")
    with pytest.raises(ValueError, match=r"groups\.h5.*x\.png"):
        PatchGroupBatches(groups, ["000.png", "x.png"])


@pytest.mark.parametrize("shape", [(40, 50, 3), (3, 3, 3)])
def test_a_photograph_without_keypoints(shape: tuple[int, int, int]) -> None:
    image = np.full(shape, 90, np.uint8)
    rng = np.random.default_rng(0)
    found = find_patch_groups(image, replace(OPTIONS, num_views=1), rng)
    assert found["patches"].shape == (0, 48, 48)
    assert found["frames"].shape == (0, 4)


def test_batches(groups: PatchGroups, names: list[str]) -> None:
    options = PatchBatchOptions(batch_size=60, photographs=2, max_per_group=3)
    data = PatchGroupBatches(groups, options=options, seed=7)
    stored = {name: groups.read(name, "patches")[0] for name in names}
    met = []
    for step in range(4):
        batch = data[step]
        assert batch["patches"].shape == (60, 48, 48)
        assert len(np.unique(batch["patches"].reshape(60, -1), axis=0)) == 60
        labels = batch["labels"]
        same = labels[:, None] == labels
        assert torch.equal(batch["affinity"], torch.where(same, 1, -1).char())
        sizes = torch.bincount(labels)
        assert ((sizes[:-1] > 1) & (sizes[:-1] <= 3)).sum() >= len(sizes) - 2
        sources = []
        for patch, label in zip(batch["patches"].numpy(), labels.tolist(), strict=True):
            (name,) = (n for n in names if (stored[n] == patch).all((1, 2)).any())
            row = (stored[name] == patch).all((1, 2)).argmax()
            sources.append((label, name, int(groups.labels(name)[row])))
        assert len(set(sources)) == len(sizes)  # a label is one group of one photograph
        met.append({name for _, name, _ in sources})
    assert all(len(photographs) == 2 for photographs in met)
    assert met[0] | met[1] == met[2] | met[3] == set(names)
    again = PatchGroupBatches(groups, options=options, seed=7)[2]
    assert all(torch.equal(value, data[2][key]) for key, value in again.items())


@pytest.mark.slow
def test_batches_from_processes(groups: PatchGroups) -> None:
    data = PatchGroupBatches(groups, options=PatchBatchOptions(batch_size=40, photographs=3))
    for step, batch in enumerate(load_ahead(data, range(3), num_workers=2)):
        assert torch.equal(batch["patches"], data[step]["patches"])


@pytest.mark.parametrize("sources", [1, 3, 8])
def test_batches_larger_than_the_photographs_have(groups: PatchGroups, sources: int) -> None:
    most = count_patches(groups, groups.names(), max_per_group=4)
    assert most > 100
    for size in (most // 2, most - 1, most):
        batch = PatchGroupBatches(groups, options=PatchBatchOptions(size, sources))[0]
        assert len(batch["patches"]) == size
    with pytest.raises(ValueError, match=rf"groups\.h5.* {most} .*add photographs"):
        PatchGroupBatches(groups, options=PatchBatchOptions(most + 1))


# ---------------------------------------------------------------- jitter


def test_no_jitter_is_the_middle() -> None:
    patches = torch.randint(256, (5, 48, 48), generator=torch.Generator().manual_seed(1)).byte()
    windows = jitter_patches(patches, NO_JITTER, 32, torch.Generator().manual_seed(0))
    torch.testing.assert_close(windows, patches[:, 8:40, 8:40].float(), rtol=0, atol=1e-2)


def test_the_extent_does_not_depend_on_the_size() -> None:
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    ramps = torch.stack([x, y, 2 * x - y])
    options = JitterOptions(flips=False)
    small, large = (
        jitter_patches(ramps, options, size, torch.Generator().manual_seed(5)) for size in (32, 42)
    )
    # A ramp's mean over the window is its value in the middle, its slope the extent.
    torch.testing.assert_close(small.mean((1, 2)), large.mean((1, 2)), rtol=0, atol=1e-2)
    per_pixel = [
        torch.diff(windows, dim=2).mean((1, 2)) * size
        for windows, size in ((small, 32), (large, 42))
    ]
    torch.testing.assert_close(*per_pixel, rtol=0, atol=1e-2)


def test_jitter_is_small_random_and_repeatable() -> None:
    ramps = torch.arange(48.0).expand(500, 48, 48)
    options = JitterOptions(flips=False)
    windows = jitter_patches(ramps, options, 32, torch.Generator().manual_seed(5))
    assert torch.equal(
        windows, jitter_patches(ramps, options, 32, torch.Generator().manual_seed(5))
    )
    shifts = windows.mean((1, 2)) - 23.5
    # 0.04 of half the window's 32 pixels.
    assert 0.6 < shifts.abs().max() <= 0.64 + 1e-3
    along, across = (torch.diff(windows, dim=dim).mean((1, 2)) for dim in (2, 1))
    assert torch.rad2deg(torch.atan2(-across, along)).abs().max() < 6.8
    scales = torch.hypot(along, across).log2()
    assert 0.15 < scales.abs().max() <= 0.2 + 1e-3


def test_groups_are_flipped_as_a_whole() -> None:
    patch = torch.rand(48, 48, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(400) // 4
    options = replace(NO_JITTER, flips=True)
    windows = jitter_patches(
        patch.expand(400, -1, -1), options, 32, torch.Generator().manual_seed(0), labels
    )
    middle = patch[8:40, 8:40]
    forms = torch.stack(
        [torch.rot90(form, k) for form in (middle, middle.flip(1)) for k in range(4)]
    )
    which = (windows[:, None] - forms).abs().amax((2, 3))
    assert (which.min(1).values < 1e-2).all()
    which = which.argmin(1).view(100, 4)
    assert (which == which[:, :1]).all()
    assert which.unique().tolist() == list(range(8))
