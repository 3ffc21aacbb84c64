"""Verified pairs in parts: two-view geometries without a database; only inliers leave a part."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Self

import numpy as np
import pycolmap

from featplug.colmap.cameras import CameraOptions, ImageCameras, make_cameras
from featplug.colmap.database import check_image_size, to_colmap_keypoints
from featplug.colmap.database_rows import CACHED_IMAGES
from featplug.colmap.geometric_verification import MatchedPair, PairVerifier
from featplug.colmap.verified_pairs import to_verified_pair
from featplug.io.artifact import Provenance, value_hash
from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.parts.feature_parts import FeatureParts
from featplug.io.parts.manifest import Manifest
from featplug.io.parts.match_parts import MatchPart, PairMatches, check_features_of_part
from featplug.io.parts.part_files import Key, part_file
from featplug.io.parts.verified_parts import SUFFIX, VerifiedPair, write_verified_part
from featplug.shards.part_stage import PartReport, PartStage
from featplug.shards.stage_record import StageRecord, read_record
from featplug.shards.store_names import verified_name
from featplug.stages.verify import camera_conf
from featplug.utils.parallel import available_cores, map_ahead
from featplug.utils.progress import progress_bar

REVISION = 1
"""Revision of what this stage makes, see :mod:`featplug.io.artifact`."""


@dataclass(frozen=True)
class VerifyParts(PartStage):
    """Two-view geometries of the matches of a store, a part for each of theirs.

    Each geometry is that of a database with all images: the cameras are made from the whole
    manifest, and the first image of a pair is the first one by name.
    """

    name = "verify"
    suffix = SUFFIX

    store: Path
    """Folder of the store."""
    features: Path
    """Folder of the feature parts."""
    matches: Path
    """Folder of the match parts."""
    camera: CameraOptions = field(default_factory=CameraOptions)
    """How cameras are made, of the images of the whole store."""
    max_error: float = 4.0
    """Largest error of an inlier, in pixels."""
    seed: int = 0
    """Seed of RANSAC."""

    @property
    def folder(self) -> Path:
        """Folder of the parts, named after the matches."""
        return self.store / verified_name(self.matches.name)

    @cached_property
    def _features(self) -> FeatureParts:
        return FeatureParts(self.features)

    @cached_property
    def _record(self) -> StageRecord:
        record = read_record(self.matches)
        if record is None:
            raise FileNotFoundError(
                f"{self.matches} is no folder of match parts; make it by `featplug match --shard`."
            )
        return record

    @cached_property
    def cameras(self) -> ImageCameras:
        """Cameras of all images of the store."""
        return make_cameras(self.camera, Manifest(self.store).headers())

    @cached_property
    def _cameras_by_id(self) -> dict[int, pycolmap.Camera]:
        return {camera.camera_id: camera for camera in self.cameras.cameras}

    @cached_property
    def made_by(self) -> Provenance:
        """Options of RANSAC and of the cameras, and the version of COLMAP."""
        conf = {
            "max_error": self.max_error,
            "seed": self.seed,
            "camera": camera_conf(self.camera),
            "block": self._record.made_by["conf"].get("block", 1),
        }
        colmap = {"class": "pycolmap", "package": "pycolmap", "version": pycolmap.__version__}
        return Provenance("verified pairs", conf, revisions={"verify": REVISION}, methods=[colmap])

    def keys(self) -> list[Key]:
        """List the keys of all parts, those of the matches."""
        return self._record.part_keys()

    def _match_path(self, key: Key) -> Path:
        return part_file(self.matches, key, ".h5")

    def inputs(self, key: Key) -> dict[str, str | None]:
        """Return the identities of matches and features, and the cameras of the part's images.

        Raises:
            FileNotFoundError: a part of the matches or features does not exist.
            ValueError: the matches are damaged, or of other features.
        """
        path = self._match_path(key)
        if not path.exists():
            raise FileNotFoundError(f"There is no {path}; match its pairs first.")
        made_from = check_features_of_part(path, key, self._features)
        with MatchPart(path) as part:
            names = sorted(part.names)
        cameras = [self._camera_values(name) for name in names]
        return {
            "matches": made_from.file_id,
            "features": made_from.inputs.get("features"),
            "cameras": value_hash(cameras),
        }

    def _camera(self, name: str) -> pycolmap.Camera | None:
        camera_id = self.cameras.camera_ids.get(name)
        return None if camera_id is None else self._cameras_by_id[camera_id]

    def _camera_values(self, name: str) -> list[object]:
        camera = self._camera(name)
        if camera is None:
            return [name]
        values = [camera.width, camera.height, *map(float, camera.params)]
        return [name, camera.model.name, camera.has_prior_focal_length, *values]

    def on_device(self, device: str | None) -> Self:
        """Return the stage itself, which needs no device."""
        return self

    def write(self, key: Key, path: Path, provenance: Provenance, progress: bool) -> PartReport:
        """Verify the pairs of a part of the matches.

        Raises:
            FileNotFoundError: a part of the matches or features does not exist.
            ValueError: the matches are damaged, or of other features.
        """
        start = time.perf_counter()
        verifier = PairVerifier(self.seed, self.max_error)
        skipped: dict[str, str] = {}
        num_verified = 0

        def verified(part: MatchPart) -> Iterator[VerifiedPair]:
            nonlocal num_verified
            names = sorted(part.names)
            bar = progress_bar(part.read_all(), "verify", len(part.pairs()), "pair", progress)
            matched = self._matched_pairs(bar, names, skipped)
            for pair, geometry, is_chance in map_ahead(verifier, matched, available_cores()):
                of_pair = names[pair.ids[0]], names[pair.ids[1]]
                num_verified += bool(len(geometry.inlier_matches))
                yield to_verified_pair(of_pair, len(pair.matches), geometry, is_chance)

        def report() -> PartReport:
            return PartReport(num_verified, skipped, time.perf_counter() - start)

        with MatchPart(self._match_path(key)) as part:
            write_verified_part(path, verified(part), provenance, lambda: report().to_json())
        return report()

    def _matched_pairs(
        self, pairs: Iterable[PairMatches], names: Sequence[str], skipped: dict[str, str]
    ) -> Iterator[MatchedPair]:
        """Yield what is verified of each pair, whose images have their places in ``names`` as IDs.

        Images that cannot be used are added to ``skipped``.
        """
        places = {name: place for place, name in enumerate(names)}

        @lru_cache(CACHED_IMAGES)
        def load(name: str) -> tuple[pycolmap.Camera, np.ndarray] | None:
            camera = self._camera(name)
            if camera is None:
                skipped[name] = f"{self.store} has no such image whose size is known"
                return None
            try:
                check_image_size(self._features, name, camera)
                keypoints = to_colmap_keypoints(self._features.read(name, ("keypoints",)))
            except UnusableDataError as error:
                skipped[name] = str(error)
                return None
            return camera, keypoints[:, :2].astype(np.float64)

        for pair in pairs:
            turned = pair if pair.names[0] < pair.names[1] else _turned(pair)
            loaded = [load(name) for name in turned.names]
            if loaded[0] is None or loaded[1] is None:
                continue
            (camera0, points0), (camera1, points1) = loaded[0], loaded[1]
            if turned.num_keypoints != (len(points0), len(points1)):
                raise ValueError(
                    f"{self.matches} has matches of {turned.names[0]!r} and {turned.names[1]!r} "
                    f"that are of other features than those in {self.features}; match again."
                )
            matches = np.ascontiguousarray(turned.indices, np.uint32)
            ids = places[turned.names[0]], places[turned.names[1]]
            yield MatchedPair(ids, (camera0, camera1), (points0, points1), matches)


def _turned(pair: PairMatches) -> PairMatches:
    """Return the matches of a pair in its other order."""
    return PairMatches(
        pair.names[::-1], pair.indices[:, ::-1], pair.scores, pair.num_keypoints[::-1]
    )
