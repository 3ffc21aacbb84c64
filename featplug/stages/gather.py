"""Matched points of pairs to keypoints of images, and matches of these.

The feature file has keypoints and scores, but no descriptors; it and the match file are read like
those of any other feature. Images and pairs are gathered one at a time, so that memory does not
grow with their number.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from featplug.io.artifact import Provenance, file_fingerprint, value_hash
from featplug.io.h5file import H5Reader
from featplug.io.hdf5_guard import UnusableDataError
from featplug.io.images import DEFAULT_PREPROCESSING, read_image_size, target_size
from featplug.io.match_store import MatchWriter
from featplug.io.pair_lists import Pair
from featplug.io.pair_points_store import PairPointsReader
from featplug.io.parts.feature_parts import open_features
from featplug.io.store import FeatureWriter
from featplug.keypoints.gathering import KeypointFinder, gather_keypoints, one_to_one
from featplug.stages.match import in_blocks
from featplug.utils.progress import progress_bar

REVISION = 1
"""Revision of keypoints and matches, see :mod:`featplug.io.artifact`."""
_CELL_SIZE = 2.0
_MAX_KEYPOINTS = 8192
_NUM_FINDERS = 64
"""Number of images whose keypoints are kept in memory."""


@dataclass(frozen=True, kw_only=True)
class GatherOptions:
    """How the points of methods without keypoints are gathered."""

    cell_size: float | None = None
    """For methods without keypoints: side of the cells whose points become one keypoint, in pixels
    of the images as they are matched; 2 by default, or the method's own. Larger cells give longer
    tracks of less exact points."""
    max_keypoints: int | None = None
    """For methods without keypoints: number of keypoints of an image, those of most pairs and the
    highest scores; -1 keeps all, the default is 8192, or the method's own."""

    def resolved(self, conf: Mapping[str, Any]) -> tuple[float, int]:
        """Return the size of a cell and the number of keypoints: given, the conf's, or the default.

        Raises:
            ValueError: one has a value that it cannot have.
        """
        given = (self.cell_size, self.max_keypoints)
        defaults = (("cell_size", _CELL_SIZE), ("max_keypoints", _MAX_KEYPOINTS))
        cell_size, max_keypoints = (
            conf.get(key, default) if value is None else value
            for value, (key, default) in zip(given, defaults, strict=True)
        )
        if not cell_size > 0:
            raise ValueError(f"cell_size must be above 0, not {cell_size}.")
        if max_keypoints < 1 and max_keypoints != -1:
            raise ValueError(
                f"max_keypoints must be 1 or more, or -1 for all, not {max_keypoints}."
            )
        return float(cell_size), int(max_keypoints)


@dataclass(frozen=True)
class GatheredFiles:
    """The files that :func:`gather_points` writes, and how."""

    features: Path
    matches: Path
    cell_size: float
    max_keypoints: int
    overwrite: bool = False
    """Replace files that were gathered with other options."""


def gather_points(
    points: Path,
    pairs: Sequence[Pair],
    image_dir: Path,
    names: Sequence[str],
    files: GatheredFiles,
    progress: bool = False,
) -> tuple[int, int]:
    """Gather the points of pairs; files of the same pairs and options are kept or completed.

    Args:
        points: file of the points of pairs.
        pairs: those to gather; one that the file lacks has no matches.
        image_dir: folder of the images.
        names: images of the feature file; those of no pair have no keypoints.
        files: the files to write; made again where they are of other pairs.
        progress: show bars.

    Returns:
        Numbers of keypoints and matches that this run wrote.

    Raises:
        ValueError: the files were made with other options, or ``points`` was not written by
            featplug.
    """
    with PairPointsReader(points) as reader:
        if reader.provenance is None:
            raise ValueError(f"{points} was not written by featplug; match the images again.")
        gathering = _Gathering(reader, reader.provenance, pairs, image_dir, files)
        num_keypoints = gathering.write_features(names, progress)
        num_matches = gathering.write_matches(progress)
    return num_keypoints, num_matches


class _Gathering:
    """Gathers the points of pairs in a file."""

    def __init__(
        self,
        points: PairPointsReader,
        made: Provenance,
        pairs: Sequence[Pair],
        image_dir: Path,
        files: GatheredFiles,
    ) -> None:
        self._points, self._made, self._pairs = points, made, pairs
        self._image_dir, self._files = image_dir, files
        self._matched = {pair for pair in pairs if pair in points}
        self._preprocessing = {**DEFAULT_PREPROCESSING, **made.conf["preprocessing"]}
        self._partners: dict[str, list[str]] = {}
        for name0, name1 in sorted(self._matched):
            self._partners.setdefault(name0, []).append(name1)
            self._partners.setdefault(name1, []).append(name0)

    def write_features(self, names: Sequence[str], progress: bool) -> int:
        """Write the keypoints of images; return the number of those that the file lacked."""
        path = self._files.features
        pairs = value_hash(sorted(sorted(pair) for pair in self._matched))
        points = " ".join([self._points.file_id, *self._points.rewriting])
        provenance = self._provenance("features", points=points, pairs=pairs)
        num_keypoints = 0
        with FeatureWriter(path, provenance, self._overwrite(path, provenance)) as writer:
            todo = [name for name in names if writer.fingerprint(name) is None]
            for name in progress_bar(todo, "gather", len(todo), "image", progress):
                keypoints, scores = self._keypoints(name)
                photograph = self._image_dir / name
                writer.write(
                    name,
                    {"keypoints": keypoints, "scores": scores},
                    read_image_size(photograph),
                    float(self._scale(name).mean()),
                    file_fingerprint(photograph),
                )
                num_keypoints += len(keypoints)
        return num_keypoints

    def write_matches(self, progress: bool) -> int:
        """Write the matches of pairs; return the number of those that the file lacked."""
        files, num_matches = self._files, 0
        with open_features(files.features) as features:
            provenance = self._provenance("matches", features=features.file_id)
            overwrite = self._overwrite(files.matches, provenance)

            @lru_cache(_NUM_FINDERS)
            def finder(name: str) -> KeypointFinder:
                return KeypointFinder(features.keypoints(name), self._cell_size(name))

            with MatchWriter(files.matches, provenance, overwrite) as writer:
                todo = in_blocks(writer.missing(self._pairs), _NUM_FINDERS)
                for pair in progress_bar(todo, "matches", len(todo), "pair", progress):
                    num_matches += self._write_pair(writer, pair, finder(pair[0]), finder(pair[1]))
        return num_matches

    def _write_pair(
        self, writer: MatchWriter, pair: Pair, finder0: KeypointFinder, finder1: KeypointFinder
    ) -> int:
        none = np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
        points0, points1, scores = self._points.read(pair) if pair in self._matched else none
        indices0, distances0 = finder0.find(points0)
        indices1, distances1 = finder1.find(points1)
        kept = one_to_one(indices0, indices1, scores, distances0 + distances1)
        matches0 = np.full(len(finder0), -1)
        scores0 = np.zeros(len(finder0), np.float32)
        matches0[indices0[kept]] = indices1[kept]
        scores0[indices0[kept]] = scores[kept]
        writer.write(*pair, matches0, scores0, len(finder1))
        return len(kept)

    def _keypoints(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the keypoints of an image and their scores, from the points of all its pairs."""
        points, scores = [np.zeros((0, 2), np.float32)], [np.zeros(0, np.float32)]
        for partner in self._partners.get(name, ()):
            of_image, _, of_pair = self._points.read((name, partner))
            points.append(of_image)
            scores.append(of_pair)
        cell_size, limit = self._cell_size(name), self._files.max_keypoints
        return gather_keypoints(np.concatenate(points), np.concatenate(scores), cell_size, limit)

    def _scale(self, name: str) -> np.ndarray:
        """Return width and height, in original pixels, of a pixel of the image as matched."""
        size = read_image_size(self._image_dir / name)
        return np.array(size) / target_size(size, self._preprocessing)

    def _cell_size(self, name: str) -> np.ndarray:
        return self._files.cell_size * self._scale(name)

    def _provenance(self, kind: str, **inputs: str | None) -> Provenance:
        own = {
            "cell_size": self._files.cell_size,
            "max_keypoints": self._files.max_keypoints,
        }
        return replace(
            self._made,
            kind=kind,
            conf={**self._made.conf, "gathering": own},
            inputs=inputs,
            revisions={**self._made.revisions, "gather": REVISION},
            file_id=uuid.uuid4().hex,
        )

    def _overwrite(self, path: Path, provenance: Provenance) -> bool:
        """Return whether to replace a file: also if it differs in its pairs only."""
        if self._files.overwrite or not path.exists():
            return self._files.overwrite
        try:
            with H5Reader(path) as reader:
                found = reader.provenance
        except UnusableDataError:
            return False
        if found is None or found.inputs == provenance.inputs:
            return False
        return replace(found, inputs=provenance.inputs).difference(provenance) is None
