"""What the formats share: files that must not be lost, indices that must fit, our HDF5 files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from featplug.colmap.database import VerificationSummary
from featplug.io.artifact import Provenance
from featplug.io.images import read_image_list
from featplug.io.pair_lists import Pair, read_pairs, unique_pairs
from featplug.io.store import FeatureReader, FeatureWriter, MatchReader, MatchWriter

_Writer = TypeVar("_Writer", FeatureWriter, MatchWriter)


@dataclass
class Transfer:
    """What was written."""

    path: Path
    num_images: int = 0
    num_keypoints: int = 0
    num_pairs: int = 0
    num_matches: int = 0
    verification: VerificationSummary | None = None
    """Of the matches in a COLMAP database."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Images and pairs that were left out, and why."""


@dataclass(frozen=True)
class Selection:
    """Which images and pairs are exported."""

    image_list: Path | None = None
    """Text file of image names; all images in the feature file by default."""
    pairs: Path | None = None
    """Pair list; all pairs in the match file by default."""

    def names(self, features: FeatureReader) -> list[str]:
        """Return the images to export.

        Raises:
            ValueError: a listed image is not in the feature file, or the file is empty.
        """
        listed = None if self.image_list is None else read_image_list(self.image_list)
        names = features.names() if listed is None else listed
        missing = [name for name in names if name not in features]
        if missing:
            raise ValueError(
                f"{features.path} has no features of {len(missing)} of {len(names)} images, the "
                f"first is {missing[0]!r}; extract them."
            )
        if not names:
            raise ValueError(f"There are no features in {features.path}.")
        return list(dict.fromkeys(names))

    def matched_pairs(
        self, matches: MatchReader, names: Sequence[str], transfer: Transfer
    ) -> list[Pair]:
        """Return the pairs to export; those of an image that is not exported are noted as skipped.

        Raises:
            ValueError: no pair is left, or two image names are the same in match files.
        """
        if self.pairs is None:
            selected, others = matches.pairs(names)
            reason = f"{matches.path} has the pair {{}}, of an image that has no features"
        else:
            listed, exported = unique_pairs(read_pairs(self.pairs)), set(names)
            selected = [pair for pair in listed if exported.issuperset(pair)]
            others = [" ".join(pair) for pair in listed if not exported.issuperset(pair)]
            reason = "an image of the pair {} has no features"
        if not selected:
            raise ValueError(f"{matches.path} has no matches of the images that have features.")
        transfer.skipped.update({other: reason.format(other) for other in others})
        return selected


ALL = Selection()
"""All images and pairs."""


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuse to replace a file unasked.

    Raises:
        FileExistsError: it is there.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path} is there already; give another name, or --overwrite to replace it."
        )


def clear_files(folder: Path, suffix: str, overwrite: bool) -> None:
    """Remove an earlier export, whose files would be taken for parts of the new one.

    Args:
        folder: looked through at any depth; need not be there.
        suffix: of the files that the format reads; all others stay.
        overwrite: remove them; else none may be there.

    Raises:
        FileExistsError: there are such files, and they are not to be replaced.
    """
    found = [path for path in sorted(folder.rglob(f"*{suffix}")) if path.is_file()]
    if found and not overwrite:
        raise FileExistsError(
            f"{folder} holds {len(found)} {suffix} files already; give another folder, or "
            "--overwrite to replace them."
        )
    for path in found:
        path.unlink()


def read_checked_matches(
    matches: MatchReader, pairs: Iterable[Pair], features: FeatureReader
) -> Iterator[tuple[Pair, np.ndarray, np.ndarray]]:
    """Read the matches of pairs, and see that they are of these features.

    Returns:
        Each pair, its matches K×2 int64 and their scores K.

    Raises:
        ValueError: a pair has not been matched, or its matches are of other features.
    """
    counts: dict[str, int] = {}
    for pair in pairs:
        for name in pair:
            if name not in counts:
                counts[name] = features.shapes(name)["keypoints"][0]
        indices, scores = matches.read(*pair)
        check_indices(indices, (counts[pair[0]], counts[pair[1]]), matches.path, pair)
        yield pair, indices, scores


def check_indices(
    indices: np.ndarray, num_keypoints: tuple[int, int], path: Path, pair: Pair
) -> None:
    """Refuse matches of keypoints that are not there.

    Args:
        indices: K×2.
        num_keypoints: of the two images.
        path: where the matches are from.
        pair: the images.

    Raises:
        ValueError: an index is out of range.
    """
    if len(indices) and ((indices < 0) | (indices >= num_keypoints)).any():
        row = np.flatnonzero(((indices < 0) | (indices >= num_keypoints)).any(axis=1))[0]
        raise ValueError(
            f"{path} matches keypoint {indices[row, 0]} of {pair[0]!r} with {indices[row, 1]} of "
            f"{pair[1]!r}, which have {num_keypoints[0]} and {num_keypoints[1]}: the matches are "
            "of other features."
        )


def descriptor_rows(features: Mapping[str, np.ndarray], path: Path, name: str) -> np.ndarray:
    """Give descriptors as other tools keep them, N×D float32.

    Raises:
        ValueError: the image has none.
    """
    if "descriptors" not in features:
        raise ValueError(f"{path} has no descriptors of the image {name!r}.")
    return np.ascontiguousarray(features["descriptors"].T, np.float32)


@contextmanager
def new_features(path: Path, source: str, overwrite: bool) -> Iterator[FeatureWriter]:
    """Open a feature file for what is read from another format; nothing is left of a failure.

    Args:
        path: the feature file.
        source: the format, kept in the file.
        overwrite: replace a feature file of ours.

    Raises:
        FileExistsError: it is there already.
        ValueError: it is something else.
    """
    refuse_existing(path, overwrite)
    provenance = Provenance("features", {"imported_from": source})
    with _removed_on_failure(FeatureWriter(path, provenance, overwrite)) as file:
        yield file


@contextmanager
def new_matches(path: Path, source: str, features: Path, overwrite: bool) -> Iterator[MatchWriter]:
    """Open a match file, as :func:`new_features`; ``features`` is what the matches are of."""
    refuse_existing(path, overwrite)
    with FeatureReader(features) as reader:
        inputs: dict[str, str | None] = {"features": reader.file_id, "features_ref": reader.file_id}
    provenance = Provenance("matches", {"imported_from": source}, inputs=inputs)
    with _removed_on_failure(MatchWriter(path, provenance, overwrite)) as file:
        yield file


@contextmanager
def _removed_on_failure(writer: _Writer) -> Iterator[_Writer]:
    try:
        with writer:
            yield writer
    except BaseException:
        writer.path.unlink(missing_ok=True)
        raise


def write_image(
    writer: FeatureWriter,
    name: str,
    features: Mapping[str, np.ndarray],
    image_size: tuple[int, int],
    transfer: Transfer,
    fingerprint: str = "",
) -> None:
    """Write an image's features, after a look at their shapes.

    Args:
        writer: of the file.
        name: the image's name.
        features: as :meth:`featplug.io.store.FeatureWriter.write` takes them.
        image_size: (width, height).
        transfer: counts the image.
        fingerprint: of the image file, where it is at hand.

    Raises:
        ValueError: there is not one descriptor or score a keypoint.
    """
    num = len(features["keypoints"])
    for key, value in features.items():
        if value.shape[-1 if key == "descriptors" else 0] != num:
            raise ValueError(
                f"The image {name!r} has {num} keypoints but {key} of the shape {value.shape}."
            )
    writer.write(name, features, image_size, 1.0, fingerprint)
    transfer.num_images += 1
    transfer.num_keypoints += num


def write_pair(
    writer: MatchWriter,
    pair: Pair,
    indices: np.ndarray,
    scores: np.ndarray,
    num_keypoints: tuple[int, int],
    transfer: Transfer,
) -> None:
    """Write a pair's matches in hloc's form, which holds one match a keypoint of the first image.

    Args:
        writer: of the file.
        pair: the images.
        indices: K×2; of several matches of one keypoint the one with the highest score is kept,
            and of equal ones the first.
        scores: K.
        num_keypoints: of the two images.
        transfer: counts the pair, and notes what was left out.
    """
    matches0 = np.full(num_keypoints[0], -1, np.int64)
    scores0 = np.zeros(num_keypoints[0], np.float32)
    # The last one written stays: the highest score, and of equal scores the first.
    best_last = np.lexsort((-np.arange(len(scores)), scores))
    matches0[indices[best_last, 0]] = indices[best_last, 1]
    scores0[indices[best_last, 0]] = scores[best_last]
    writer.write(*pair, matches0, scores0, num_keypoints[1])
    kept = int(np.count_nonzero(matches0 >= 0))
    if kept < len(indices):
        transfer.skipped[" ".join(pair)] = (
            f"{len(indices) - kept} of {len(indices)} matches of {pair[0]!r} and {pair[1]!r}, of "
            "keypoints that have a better one"
        )
    transfer.num_pairs += 1
    transfer.num_matches += kept
