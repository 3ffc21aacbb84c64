"""Points of keypoints from scans: interpolation, holes, borders; each scan read once."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import featplug.localization.scans as scans_module
from featplug.io.artifact import Provenance
from featplug.io.store import FeatureWriter
from featplug.localization.scans import (
    SamplingOptions,
    ScanPointReader,
    interpolate_scan,
    sample_scans,
)


def affine_scan(width: int, height: int) -> np.ndarray:
    """A plane: points that are affine in the pixel, with a world's large coordinates."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return affine_points(np.stack([x, y], axis=-1))


def affine_points(keypoints: np.ndarray) -> np.ndarray:
    return keypoints @ np.array([[0.5, -0.25, 2.0], [0.125, 1.0, -0.5]]) + [1000.0, -20.0, 3.0]


def test_a_plane_is_exact_everywhere_in_the_image() -> None:
    rng = np.random.default_rng(0)
    corners = [[0, 0], [11, 8], [-0.5, -0.5], [11.5, 8.5], [-0.5, 8.5], [11.5, 3], [5.5, -0.25]]
    halves = [[3.5, 4], [3, 4.5], [3.5, 4.5], [10.5, 7.5]]
    anywhere = rng.uniform([-0.5, -0.5], [11.5, 8.5], (200, 2))
    keypoints = np.concatenate([corners, halves, anywhere])
    points = interpolate_scan(affine_scan(12, 9), keypoints)
    np.testing.assert_allclose(points, affine_points(keypoints), rtol=0, atol=1e-9)


def test_outside_the_image_there_is_no_point() -> None:
    outside = np.array([[-0.6, 2], [11.6, 2], [4, -0.6], [4, 8.6], [-100, 0]])
    assert np.isnan(interpolate_scan(affine_scan(12, 9), outside)).all()


def test_beside_a_hole_the_nearest_pixel_counts_and_in_it_none() -> None:
    scan = affine_scan(12, 9)
    scan[4, 5] = np.nan
    scan[6, 2, 1] = np.inf  # one bad coordinate makes a hole
    keypoints = np.array([[4.4, 4.0], [4.6, 4.4], [5.6, 4.2], [2.2, 6.3], [2.0, 5.4], [8.5, 2.5]])
    points = interpolate_scan(scan, keypoints)
    nearest = np.array([[4, 4], [np.nan, np.nan], [6, 4], [np.nan, np.nan], [2, 5], [8.5, 2.5]])
    np.testing.assert_allclose(points, affine_points(nearest), rtol=0, atol=1e-9)


def test_inside_the_image_it_is_grid_sample_as_in_hloc() -> None:
    rng = np.random.default_rng(1)
    scan = rng.random((9, 12, 3))
    scan[rng.random((9, 12)) < 0.2] = np.nan
    keypoints = rng.uniform([0, 0], [11, 8], (500, 2))
    grid = torch.from_numpy(keypoints / [11, 8] * 2 - 1)[None, None]
    planes = torch.from_numpy(scan).permute(2, 0, 1)[None]
    linear, nearest = (
        torch.nn.functional.grid_sample(planes, grid, mode=mode, align_corners=True)[0, :, 0]
        for mode in ("bilinear", "nearest")
    )
    expected = torch.where(linear.isnan(), nearest, linear).t().numpy()
    points = interpolate_scan(np.asfortranarray(scan), keypoints)
    np.testing.assert_allclose(points, expected, rtol=0, atol=1e-9)
    assert 0.02 < np.isnan(points[:, 0]).mean() < 0.3


def test_what_is_no_scan_is_refused() -> None:
    for shape in [(9, 12), (9, 12, 4), (1, 12, 3)]:
        with pytest.raises(ValueError, match=r"shape H×W×3, not 9×12|×4|1×12"):
            interpolate_scan(np.zeros(shape), np.zeros((1, 2)))


class Scans:
    """Scans in numpy's files, which counts how often each is read."""

    def __init__(self, folder: Path, num: int) -> None:
        self.features = folder / "feats.h5"
        self.output = folder / "scan-points.h5"
        self.paths = {f"{i}/image.jpg": folder / f"{i}.npy" for i in range(num)}
        self.keypoints = {}
        self.reads: list[str] = []
        rng = np.random.default_rng(2)
        with FeatureWriter(self.features, Provenance("features", {})) as writer:
            for name, path in self.paths.items():
                np.save(path, affine_scan(12, 9))
                keypoints = rng.uniform([0, 0], [11, 8], (20, 2)).astype(np.float32)
                self.keypoints[name] = keypoints
                writer.write(name, {"keypoints": keypoints}, (12, 9), 1.0, "")

    def read(self, path: Path) -> np.ndarray:
        self.reads.append(path.stem)
        return np.load(path)


def test_each_scan_is_read_once_and_again_only_when_it_changes(tmp_path: Path) -> None:
    scans = Scans(tmp_path, 5)
    summary = sample_scans(scans.paths, scans.read, scans.features, scans.output)
    assert (summary.num_read, summary.num_present, summary.skipped) == (5, 0, {})
    assert sorted(scans.reads) == list("01234")
    with ScanPointReader(scans.output) as points:
        for name, keypoints in scans.keypoints.items():
            np.testing.assert_allclose(points.read(name), affine_points(keypoints), atol=1e-9)
        with pytest.raises(ValueError, match=r"no scan points of the image '7.jpg'"):
            points.read("7.jpg")
    scans.reads.clear()
    np.save(scans.paths["3/image.jpg"], affine_scan(12, 9) + 1)
    summary = sample_scans(scans.paths, scans.read, scans.features, scans.output)
    assert (summary.num_read, summary.num_present) == (1, 4)
    assert scans.reads == ["3"]


def _sample_and_die(paths: dict[str, Path], features: Path, output: Path) -> None:
    def read(path: Path) -> np.ndarray:
        if path.stem == "3":
            os.kill(os.getpid(), signal.SIGKILL)
        return np.load(path)

    sample_scans(paths, read, features, output, SamplingOptions(num_workers=1))


def test_a_killed_pass_goes_on_where_it_stopped(tmp_path: Path) -> None:
    scans = Scans(tmp_path, 5)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([scans_module.__name__])
    process = context.Process(
        target=_sample_and_die, args=(scans.paths, scans.features, scans.output)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    summary = sample_scans(scans.paths, scans.read, scans.features, scans.output)
    # The one before it may have been read and not yet written.
    assert summary.num_present in (2, 3)
    assert summary.num_read == 5 - summary.num_present
    assert sorted(scans.reads) == list("01234")[summary.num_present :]
    with ScanPointReader(scans.output) as points:
        for name, keypoints in scans.keypoints.items():
            np.testing.assert_allclose(points.read(name), affine_points(keypoints), atol=1e-9)


def test_bad_scans_are_told_and_the_others_used(tmp_path: Path) -> None:
    scans = Scans(tmp_path, 5)
    paths = list(scans.paths.values())
    good_at_first = {"3/image.jpg": paths[3]}
    assert not sample_scans(good_at_first, scans.read, scans.features, scans.output).skipped
    paths[0].unlink()
    np.save(paths[1], np.full((9, 12, 3), np.nan))
    np.save(paths[2], affine_scan(9, 12))
    paths[3].write_bytes(b"damaged")
    reasons = {
        "0/image.jpg": "There is no scan .*0.npy",
        "1/image.jpg": "1.npy has a point at no keypoint of '1/image.jpg'",
        "2/image.jpg": "2.npy has the shape 12×9×3, its image 12×9 pixels",
        "3/image.jpg": "pickle",  # what numpy thinks of it
    }
    for _ in range(2):  # a second run says the same
        summary = sample_scans(scans.paths, scans.read, scans.features, scans.output)
        assert list(summary.skipped) == list(reasons)
        for name, reason in reasons.items():
            assert re.search(reason, summary.skipped[name])
    with ScanPointReader(scans.output) as points:
        assert np.isfinite(points.read("4/image.jpg")).all()
        assert "3/image.jpg" not in points


@pytest.mark.parametrize(("budget", "at_once"), [(0, 1), (10 * 9 * 12 * 3 * 8, 3)])
def test_the_budget_limits_how_many_scans_are_in_memory(
    tmp_path: Path, budget: int, at_once: int
) -> None:
    scans = Scans(tmp_path, 8)
    changed = threading.Condition()
    inside = most = 0

    def read(path: Path) -> np.ndarray:
        nonlocal inside, most
        with changed:
            inside += 1
            most = max(most, inside)
            changed.notify_all()
            changed.wait_for(lambda: most >= at_once, timeout=0.3)
            inside -= 1
        return np.load(path)

    options = SamplingOptions(memory_budget=budget, num_workers=3)
    sample_scans(scans.paths, read, scans.features, scans.output, options)
    assert most == at_once


def test_points_of_other_features_are_not_mixed(tmp_path: Path) -> None:
    scans = Scans(tmp_path, 1)
    sample_scans(scans.paths, scans.read, scans.features, scans.output)
    scans.features.unlink()
    Scans(tmp_path, 1)
    with pytest.raises(ValueError, match=r"scan-points.h5 .*other features"):
        sample_scans(scans.paths, scans.read, scans.features, scans.output)
