"""Geometric verification in parts: without a common database, and only inliers leave."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import pycolmap

from featplug.colmap.cameras import CameraOptions, make_cameras
from featplug.colmap.database import to_colmap_keypoints
from featplug.colmap.geometric_verification import MatchedPair, PairVerifier
from featplug.io.artifact import Provenance, file_hash, value_hash
from featplug.io.image_files import read_image_header
from featplug.io.parts.feature_parts import FeatureParts
from featplug.io.parts.manifest import Manifest
from featplug.io.parts.match_parts import MatchPart, PairMatches
from featplug.io.parts.part_files import Key, part_keys, read_part_record
from featplug.io.parts.verified_parts import MATRICES, SUFFIX, VerifiedPair, write_verified_part
from featplug.shards.part_stage import PartReport, PartStage
from featplug.shards.store_names import verified_name
from featplug.utils.parallel import NUM_READERS, map_ahead
from featplug.utils.progress import progress_bar

REVISION = 1
_CACHED_IMAGES = 2000
"""Images whose keypoints are kept in memory, 30 to 60 KiB each."""


@dataclass(frozen=True)
class VerifyParts(PartStage):
    """Two-view geometries of a store's matches, a part for each part of these."""

    name = "verify"
    suffix = SUFFIX

    store: Path
    """Folder of the store."""
    features: Path
    """Folder of the feature parts."""
    matches: Path
    """Folder of the packed match parts."""
    camera: CameraOptions = field(default_factory=CameraOptions)
    """How cameras are made; images share them within a part as within the whole set."""
    max_error: float = 4.0
    """Largest error of an inlier, in pixels."""
    seed: int = 0
    """Seed of RANSAC."""

    @property
    def folder(self) -> Path:
        """Folder of the parts, named after the matches."""
        return self.store / verified_name(self.matches.name)

    @cached_property
    def manifest(self) -> Manifest:
        """Images of the store."""
        return Manifest(self.store)

    @cached_property
    def _reader(self) -> FeatureParts:
        return FeatureParts(self.features)

    @cached_property
    def _match_paths(self) -> dict[Key, Path]:
        paths = part_keys(self.matches, ".h5")
        if not paths:
            raise FileNotFoundError(f"{self.matches} has no part-*.h5; match the pairs first.")
        return paths

    @cached_property
    def made_by(self) -> Provenance:
        """Options of cameras and of RANSAC."""
        camera = self.camera
        conf: dict[str, Any] = {
            "camera": [camera.mode, camera.model, camera.params, camera.scale],
            "max_error": self.max_error,
            "seed": self.seed,
        }
        given = None if camera.file is None else value_hash(_hashes(camera.file))
        return Provenance(
            "verified pairs", {**conf, "given": given}, revisions={"verify": REVISION}
        )

    def keys(self) -> list[Key]:
        """List the keys of the parts of matches."""
        return list(self._match_paths)

    def inputs(self, key: Key) -> dict[str, str | None]:
        """Return the identity of a part of matches, which has that of its features."""
        return {"matches": read_part_record(self._match_paths[key])[0].file_id}

    def on_device(self, device: str | None) -> Self:
        """Return the stage itself, which needs no device."""
        return self

    def write(self, key: Key, path: Path, provenance: Provenance, progress: bool) -> PartReport:
        """Verify the pairs of a part.

        Raises:
            FileNotFoundError: a photograph does not exist.
            ValueError: features or matches are damaged.
        """
        start = time.perf_counter()
        with MatchPart(self._match_paths[key]) as part:
            names = sorted(set(chain.from_iterable(part.pairs())))
            cameras = self._cameras(names)
            number = {name: place for place, name in enumerate(names)}

            @lru_cache(_CACHED_IMAGES)
            def points(name: str) -> np.ndarray:
                frames = to_colmap_keypoints(self._reader.read(name, ("keypoints",)))
                return frames[:, :2].astype(np.float32).astype(np.float64)

            def matched() -> Iterator[MatchedPair]:
                total = len(part.pairs())
                for found in progress_bar(part.read_all(), "verify", total, "pair", progress):
                    if len(found.indices):
                        a, b, indices = _in_order(found)
                        yield MatchedPair(
                            (number[a], number[b]),
                            (cameras[a], cameras[b]),
                            (points(a), points(b)),
                            indices,
                        )

            verifier = PairVerifier(self.seed, self.max_error)
            verified = [
                _verified((names[pair.ids[0]], names[pair.ids[1]]), pair, geometry)
                for pair, geometry, _ in map_ahead(verifier, matched(), os.cpu_count() or 1)
                if len(geometry.inlier_matches)
            ]
        report = PartReport(len(verified), {}, time.perf_counter() - start)
        write_verified_part(path, verified, provenance, report.to_json())
        return report

    def _cameras(self, names: list[str]) -> dict[str, pycolmap.Camera]:
        """Return the camera of each image."""
        image_dir = self.manifest.image_dir
        read = map_ahead(lambda name: read_image_header(image_dir / name), names, NUM_READERS)
        made = make_cameras(self.camera, dict(zip(names, read, strict=True)))
        return {name: made.cameras[number - 1] for name, number in made.camera_ids.items()}


def _in_order(found: PairMatches) -> tuple[str, str, np.ndarray]:
    """Return two names in their order, and the matches: the geometry depends on the order."""
    (a, b), indices = found.names, found.indices.astype(np.uint32)
    return (a, b, indices) if a < b else (b, a, np.ascontiguousarray(indices[:, ::-1]))


def _verified(
    names: tuple[str, str], pair: MatchedPair, geometry: pycolmap.TwoViewGeometry
) -> VerifiedPair:
    matrices = {
        name: np.asarray(matrix)
        for name in MATRICES
        if (matrix := getattr(geometry, name)) is not None and np.any(matrix)
    }
    pose = geometry.cam2_from_cam1
    return VerifiedPair(
        names,
        pycolmap.TwoViewGeometryConfiguration(geometry.config).name,
        np.asarray(geometry.inlier_matches, np.uint32),
        len(pair.matches),
        matrices,
        None if pose is None else np.asarray(pose.matrix()),
    )


def _hashes(path: Path) -> list[str]:
    """Return the hashes of a file, or of the files of a folder."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file_hash(file) for file in files if file.is_file()]
