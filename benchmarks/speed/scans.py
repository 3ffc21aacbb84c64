"""Localization in scans from given features and matches, beside hloc's ``localize_inloc``."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from benchmarks.speed.measure import Case, Figures, Setup
from featplug.io.h5file import Provenance
from featplug.io.pair_lists import write_pairs
from featplug.io.results import peak_memory
from featplug.io.store import FeatureWriter, MatchWriter
from featplug.localization.localizer import SUBMISSION
from featplug.localization.queries import read_poses, write_poses
from featplug.localization.scans import interpolate_scan
from featplug.metrics.poses import absolute_pose_errors
from pipelines.datasets.inloc import benchmark_camera, read_scan
from pipelines.inloc import localize
from pipelines.inloc_task import InLocOptions
from pipelines.run import FeatureOptions

_NUM_QUERIES, _NUM_CUTOUTS = 7, 20
"""Each with each: seven pairs a cutout, as in hloc's list for InLoc (14,240 of 2,020 cutouts)."""
_NUM_SURFACES = 4
_QUERY_SIZE = (4032, 3024)
_SCAN_SIZE = (1600, 1200)
_KEYPOINTS, _INLIERS, _OUTLIERS = 2000, 120, 80
"""In a cutout; matches of each pair, right and wrong."""
_MEMORY_GIB = 0.25


def make_inputs(setup: Setup) -> Path:
    """Write scans of InLoc's size, and queries that see what is in them."""
    folder = setup.work / "speed-inloc"
    if (folder / "truth.txt").exists():
        return folder
    rng = np.random.default_rng(0)
    cutouts: list[str] = []
    worlds: list[np.ndarray] = []
    for i in range(_NUM_CUTOUTS):
        scan = f"{i // 12:03}"
        name = f"database/cutouts/DUC1/{scan}/DUC_cutout_{scan}_{30 * (i % 12)}_0.jpg"
        path = folder / f"{name}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i < _NUM_SURFACES:
            arrays = {"RGBcut": _noise(rng, _SCAN_SIZE), "XYZcut": _surface(rng)}
            savemat(path, arrays, do_compression=True)
        else:
            shutil.copyfile(folder / f"{cutouts[i % _NUM_SURFACES]}.mat", path)
        cutouts.append(name)
        worlds.append(_write_alignment(folder, scan))
    queries = [f"query/iphone7/IMG_{801 + i:04}.JPG" for i in range(_NUM_QUERIES)]
    (folder / "query" / "iphone7").mkdir(parents=True)
    keypoints = {
        name: rng.uniform(0, np.array(_SCAN_SIZE) - 1, (_KEYPOINTS, 2)) for name in cutouts
    }
    points = {}
    for name, world in zip(cutouts, worlds, strict=True):
        scan_points = interpolate_scan(read_scan(folder / f"{name}.mat"), keypoints[name])
        points[name] = scan_points @ world[:3, :3].T + world[:3, 3]
    camera = benchmark_camera(*_QUERY_SIZE)
    truth, pairs = {}, []
    with MatchWriter(folder / "matches.h5", Provenance("matches", {})) as writer:
        for query in queries:
            Image.fromarray(_noise(rng, _QUERY_SIZE) // 32).save(folder / query, format="JPEG")
            rotation = Rotation.from_rotvec(rng.normal(0, 0.05, 3)).as_matrix()
            truth[query] = np.column_stack([rotation, rng.normal(0, 0.2, 3)])
            seen = [_see(rng, points[name], truth[query], camera.params) for name in cutouts]
            keypoints[query] = np.concatenate([found for found, _ in seen])
            offset = 0
            for name, (_, indices) in zip(cutouts, seen, strict=True):
                matches = np.full(len(keypoints[query]), -1)
                matches[offset : offset + len(indices)] = indices
                offset += len(indices)
                writer.write(query, name, matches, np.ones(len(matches)), _KEYPOINTS)
                pairs.append((query, name))
    with FeatureWriter(folder / "feats.h5", Provenance("features", {})) as features:
        for name, xy in keypoints.items():
            size = _QUERY_SIZE if name in truth else _SCAN_SIZE
            features.write(name, {"keypoints": xy.astype(np.float32)}, size, 1.0, "")
    for name in cutouts:
        Image.new("RGB", _SCAN_SIZE).save(folder / name)
    write_pairs(folder / "pairs.txt", pairs)
    write_poses(folder / "truth.txt", truth)
    return folder


def _noise(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def _surface(rng: np.random.Generator) -> np.ndarray:
    """A wavy wall in front of the scanner, with millimetres of noise and holes."""
    width, height = _SCAN_SIZE
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    shape = np.sin(x / rng.uniform(100, 300)) + np.cos(y / rng.uniform(100, 300))
    z = 5 + 0.5 * shape + rng.normal(0, 0.002, x.shape)
    focal = width / 2 * 3**0.5
    points = np.stack([(x - width / 2) / focal * z, (y - height / 2) / focal * z, z], axis=-1)
    points[rng.random(x.shape) < 0.05] = np.nan
    return points.astype(np.float32).astype(np.float64)  # no scanner is more precise


def _write_alignment(folder: Path, scan: str) -> np.ndarray:
    """Place a scan near the world's origin."""
    world_from_scan = np.eye(4)
    world_from_scan[:3, :3] = Rotation.from_rotvec([0, 0.05 * int(scan), 0]).as_matrix()
    world_from_scan[:3, 3] = [0.3 * int(scan), 0, 0]
    path = folder / f"database/alignments/DUC1/transformations/DUC_trans_{scan}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "\n".join(" ".join(map(repr, row)) for row in world_from_scan.tolist())
    path.write_text(f"Before general icp:\n{rows}\n\nAfter general icp:\n{rows}\n")
    return world_from_scan


def _see(
    rng: np.random.Generator, points: np.ndarray, cam_from_world: np.ndarray, params: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give keypoints of a query, and which keypoints of the cutout they are matched with."""
    in_camera = points @ cam_from_world[:, :3].T + cam_from_world[:, 3]
    xy = params[0] * in_camera[:, :2] / in_camera[:, 2:] + params[1:] - 0.5
    inside = ((xy >= 0) & (xy <= np.array(_QUERY_SIZE) - 1)).all(axis=1)
    indices = rng.permutation(np.flatnonzero(inside))[:_INLIERS]
    right = xy[indices] + rng.normal(0, 1, (len(indices), 2))
    wrong = rng.uniform(0, np.array(_QUERY_SIZE) - 1, (_OUTLIERS, 2))
    others = rng.integers(0, len(points), _OUTLIERS)
    return np.concatenate([right, wrong]), np.concatenate([indices, others])


def inloc_ours(setup: Setup) -> Figures:
    """``pipelines.inloc`` from features and matches, within 0.25 GiB for scans."""
    folder, outputs = make_inputs(setup), setup.work / "inloc-ours"
    shutil.rmtree(outputs, ignore_errors=True)
    options = InLocOptions(
        folder,
        FeatureOptions(features=folder / "feats.h5"),
        pairs=folder / "pairs.txt",
        matches=folder / "matches.h5",
        outputs=outputs,
        memory_gib=_MEMORY_GIB,
    )
    before = peak_memory()
    start, cpu_start = time.perf_counter(), time.process_time()
    results = localize(options)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    peak = max(stage["peak_memory_mib"] for stage in results["stages"].values())
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_memory_mib": peak,
        "localization_memory_mib": peak - before / 2**20,
        **_errors(folder, outputs / SUBMISSION),
        "stages": results["stages"],
    }


def inloc_hloc(setup: Setup) -> Figures:
    """``localize_inloc`` of hloc on the same files."""
    sys.path.insert(0, str(setup.hloc))
    from hloc import localize_inloc  # type: ignore[import-not-found]

    folder, submission = make_inputs(setup), setup.work / "inloc-hloc.txt"
    before = peak_memory()
    start, cpu_start = time.perf_counter(), time.process_time()
    localize_inloc.main(
        folder,
        folder / "pairs.txt",
        folder / "feats.h5",
        folder / "matches.h5",
        submission,
        skip_matches=20,
    )
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_memory_mib": peak_memory() / 2**20,
        "localization_memory_mib": (peak_memory() - before) / 2**20,
        **_errors(folder, submission),
    }


def _errors(folder: Path, submission: Path) -> dict[str, float]:
    """Measure how far the poses are from the true ones, at most."""
    errors = absolute_pose_errors(read_poses(submission), read_poses(folder / "truth.txt"))
    return {
        "largest_position_error_m": float(errors.position.max()),
        "largest_rotation_error_deg": float(errors.rotation.max()),
    }


CASES: dict[str, Case] = {
    "localize-inloc": Case(
        "synthetic", {"featplug": inloc_ours, "hloc": inloc_hloc}, make_inputs, uses_images=False
    ),
}
