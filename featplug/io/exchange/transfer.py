"""Helpers of all formats: selections, files that must not be lost, indices that must fit."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from featplug.colmap.verification import VerificationSummary
from featplug.io.artifact import Provenance
from featplug.io.pair_lists import Pair, read_image_list, read_pairs, unique_pairs
from featplug.io.store import FeatureReader, FeatureWriter, MatchReader, MatchWriter

_Writer = TypeVar("_Writer", FeatureWriter, MatchWriter)


@dataclass
class Transfer:
    """Counts of what an export or import wrote."""

    path: Path
    counts: dict[str, int] = field(default_factory=dict)
    """Number of keypoints of each image."""
    num_pairs: int = 0
    num_matches: int = 0
    verification: VerificationSummary | None = None
    """Verification of the matches in a COLMAP database."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Images and pairs that were left out, and why."""

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.counts)

    @property
    def num_keypoints(self) -> int:
        """Number of keypoints in all images."""
        return sum(self.counts.values())

    def add_pair(self, num_matches: int) -> None:
        """Count a pair and its matches."""
        self.num_pairs += 1
        self.num_matches += num_matches


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
        names = read_image_list(self.image_list) if self.image_list else features.names()
        missing = [name for name in names if name not in features]
        if missing:
            raise ValueError(
                f"{features.path} has no features of {len(missing)} of {len(names)} images, the "
                f"first is {missing[0]!r}; extract them."
            )
        if not names:
            raise ValueError(f"There are no features in {features.path}.")
        return names

    def matched_pairs(
        self, matches: MatchReader, names: Sequence[str], transfer: Transfer
    ) -> list[Pair]:
        """Return the pairs to export; ``transfer`` lists pairs of other images as skipped.

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


def check_replaceable(path: Path, overwrite: bool) -> None:
    """Raise a FileExistsError if a file exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path} exists already; choose another name, or --overwrite to replace it."
        )


def clear_files(folder: Path, suffix: str, overwrite: bool) -> None:
    """Remove the files of an earlier export, at any depth, so that they do not count as this one's.

    Raises:
        FileExistsError: the folder has files with that suffix, and they may not be replaced.
    """
    files = [path for path in sorted(folder.rglob(f"*{suffix}")) if path.is_file()]
    if files and not overwrite:
        raise FileExistsError(
            f"{folder} holds {len(files)} {suffix} files already; choose another folder, or "
            "--overwrite to replace them."
        )
    for path in files:
        path.unlink()


def images_with_files(
    images: Sequence[str], file_of: Callable[[str], Path], transfer: Transfer
) -> list[str]:
    """Return the images that have a file of features; ``transfer`` lists the others as skipped.

    Raises:
        FileNotFoundError: no image has one.
    """
    present = [name for name in images if file_of(name).is_file()]
    if not present:
        raise FileNotFoundError(
            f"None of the {len(images)} images has keypoints; the first would be "
            f"{file_of(min(images))}."
        )
    for name in sorted(set(images) - set(present)):
        transfer.skipped[name] = f"there is no {file_of(name)}"
    return present


def export_matches(
    matches: Path | None,
    selection: Selection,
    transfer: Transfer,
    write: Callable[[Pair, np.ndarray, np.ndarray], None],
) -> None:
    """Write the matches of the selected pairs of exported images, if a match file is given.

    ``write`` takes a pair, its matches K×2 int64 and their scores K.

    Raises:
        ValueError: no pair is left, a pair has not been matched, or its matches are of other
            features.
    """
    if matches is None:
        return
    with MatchReader(matches) as reader:
        for pair in selection.matched_pairs(reader, list(transfer.counts), transfer):
            indices, scores = reader.read(*pair)
            _check_indices(indices, pair, transfer, reader.path)
            write(pair, indices, scores)
            transfer.add_pair(len(indices))


def _check_indices(indices: np.ndarray, pair: Pair, transfer: Transfer, path: Path) -> None:
    """Check that the matches of ``path`` are of the images' keypoints."""
    for name in pair:
        if name not in transfer.counts:
            raise ValueError(f"{path} has matches of {name!r}, which has no keypoints.")
    counts = [transfer.counts[name] for name in pair]
    is_outside = ((indices < 0) | (indices >= counts)).any(axis=1) if len(indices) else np.zeros(0)
    if is_outside.any():
        first = indices[np.flatnonzero(is_outside)[0]]
        raise ValueError(
            f"{path} matches keypoint {first[0]} of {pair[0]!r} with {first[1]} of {pair[1]!r}, "
            f"which have {counts[0]} and {counts[1]}: the matches are of other features."
        )


def descriptor_rows(features: Mapping[str, np.ndarray], path: Path, name: str) -> np.ndarray:
    """Return descriptors as other tools keep them, N×D float32.

    Raises:
        ValueError: the image has none.
    """
    if "descriptors" not in features:
        raise ValueError(f"{path} has no descriptors of the image {name!r}.")
    return np.ascontiguousarray(features["descriptors"].T, np.float32)


@dataclass(frozen=True)
class FoundImage:
    """Features of one image, read from another format."""

    name: str
    features: Mapping[str, np.ndarray]
    """Arrays for :meth:`featplug.io.store.FeatureWriter.write`."""
    size: tuple[int, int]
    """Width and height."""
    fingerprint: str = ""
    """Fingerprint of the image file, where that exists."""


@dataclass(frozen=True)
class ImportFiles:
    """Files that an import writes, which hloc reads."""

    features: Path
    """Feature file to write; images without keypoints are reported as skipped."""
    matches: Path | None = None
    """Match file to write; none by default."""
    overwrite: bool = False
    """Replace the files."""


FoundMatches = tuple[Pair, np.ndarray, np.ndarray | None, Path]
"""A pair, its matches K×2, their scores K (1 if None), and the file that they were read from."""


def import_found(
    source: str,
    files: ImportFiles,
    transfer: Transfer,
    images: Iterable[FoundImage],
    found_matches: Iterable[FoundMatches] = (),
) -> Transfer:
    """Write what is read from another format into a feature file and a match file.

    A file whose contents turn out to be wrong is removed.

    Args:
        source: name of the format, kept in the files.
        files: the feature file and the match file to write.
        transfer: counts what is written, and lists what is left out.
        images: the images, read one by one.
        found_matches: the matches, read pair by pair after the images.

    Raises:
        FileExistsError: one of the files exists already.
        ValueError: a file to replace is something else, an image has not one descriptor or score
            for each keypoint, or matches are of unknown images or keypoints.
    """
    for path in filter(None, (files.features, files.matches)):
        check_replaceable(Path(path), files.overwrite)
    conf = {"imported_from": source}
    file = FeatureWriter(transfer.path, Provenance("features", conf), files.overwrite)
    with _removed_on_failure(file) as writer:
        for image in images:
            num = len(image.features["keypoints"])
            for key, value in image.features.items():
                if value.shape[-1 if key == "descriptors" else 0] != num:
                    raise ValueError(
                        f"The image {image.name!r} has {num} keypoints but {key} of the shape "
                        f"{value.shape}."
                    )
            writer.write(image.name, image.features, image.size, 1.0, image.fingerprint)
            transfer.counts[image.name] = num
    if files.matches is not None:
        inputs: dict[str, str | None] = dict.fromkeys(
            ("features", "features_ref"), file.provenance.file_id
        )
        match_file = MatchWriter(
            Path(files.matches), Provenance("matches", conf, inputs=inputs), files.overwrite
        )
        with _removed_on_failure(match_file) as match_writer:
            for pair, indices, scores, path in found_matches:
                _check_indices(indices, pair, transfer, path)
                if scores is None:
                    scores = np.ones(len(indices), np.float32)
                _write_pair(match_writer, pair, indices, scores, transfer)
    return transfer


@contextmanager
def _removed_on_failure(writer: _Writer) -> Iterator[_Writer]:
    try:
        with writer:
            yield writer
    except BaseException:
        writer.path.unlink(missing_ok=True)
        raise


def _write_pair(
    writer: MatchWriter, pair: Pair, indices: np.ndarray, scores: np.ndarray, transfer: Transfer
) -> None:
    """Write a pair's matches in hloc's form, which has one match a keypoint of the first image.

    Of several matches of a keypoint the one with the highest score is kept, of equal ones the
    first.
    """
    num0, num1 = (transfer.counts[name] for name in pair)
    matches0 = np.full(num0, -1, np.int64)
    scores0 = np.zeros(num0, np.float32)
    # The last one written stays: the highest score, and of equal scores the first.
    best_last = np.lexsort((-np.arange(len(scores)), scores))
    matches0[indices[best_last, 0]] = indices[best_last, 1]
    scores0[indices[best_last, 0]] = scores[best_last]
    writer.write(*pair, matches0, scores0, num1)
    kept = int(np.count_nonzero(matches0 >= 0))
    if kept < len(indices):
        transfer.skipped[" ".join(pair)] = (
            f"{len(indices) - kept} of {len(indices)} matches of {pair[0]!r} and {pair[1]!r}, of "
            "keypoints that have a better one"
        )
    transfer.add_pair(kept)
