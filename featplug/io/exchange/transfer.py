"""Helpers of all formats: selections, files that must not be lost, indices that must fit."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from featplug.colmap.geometric_verification import VerificationSummary
from featplug.colmap.model_tables import MAX_SIDE
from featplug.io.artifact import Provenance, file_fingerprint
from featplug.io.feature_arrays import checked_arrays
from featplug.io.files import write_whole
from featplug.io.h5file import lock_replaceable
from featplug.io.images import read_image_size
from featplug.io.limits import as_megabytes
from featplug.io.match_store import MatchReader, MatchWriter
from featplug.io.names import checked_name
from featplug.io.pair_lists import Pair, read_image_list, read_pairs, unique_pairs
from featplug.io.parts.match_parts import open_matches
from featplug.io.store import FeatureReader, FeatureWriter
from featplug.utils.interrupts import delayed_interrupts

_MAX_ARRAY_BYTES = 2**29


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

    def names(self, features: FeatureReader, transfer: Transfer) -> list[str]:
        """Return the images to export; ``transfer`` lists those with unusable names as skipped.

        Raises:
            ValueError: a listed image is not in the feature file, or no image is left.
        """
        names = read_image_list(self.image_list) if self.image_list else features.all_names()
        missing = [name for name in names if name not in features]
        if missing:
            raise ValueError(
                f"{features.path} has no features of {len(missing)} of {len(names)} images, the "
                f"first is {missing[0]!r}; extract them."
            )
        if not names:
            raise ValueError(f"There are no features in {features.path}.")
        return list(usable_names(names, transfer, features.path))

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


def usable_names(names: Iterable[str], transfer: Transfer, path: Path) -> dict[str, str]:
    """Return the normal form of each name; ``transfer`` lists the others as skipped.

    Raises:
        ValueError: no name of the file ``path`` can be used.
    """
    normal: dict[str, str] = {}
    owners: dict[str, str] = {}
    reason = f"{path} has no images."
    for name in names:
        try:
            form = checked_name(name, str(path))
            if owners.setdefault(form, name) != name:
                raise ValueError(f"{path}: {name!r} and {owners[form]!r} are one name; remove one.")
            normal[name] = form
        except ValueError as error:
            transfer.skipped[name] = reason = str(error)
    if not normal:
        raise ValueError(reason)
    return normal


def read_array_bytes(path: Path) -> bytes:
    """Read a file that is one array of an image or a pair.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is larger than any such array.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    if (size := path.stat().st_size) > _MAX_ARRAY_BYTES:
        raise ValueError(
            f"{path} has {as_megabytes(size)}, more than the {as_megabytes(_MAX_ARRAY_BYTES)} that "
            "an image's keypoints, descriptors or matches may have; make it again with fewer."
        )
    return path.read_bytes()


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
    features: FeatureReader,
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
    with open_matches(matches) as reader:
        reader.check_features(features)
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

    path: Path
    """File that they were read from."""
    features: dict[str, np.ndarray]
    """Arrays for :meth:`featplug.io.store.FeatureWriter.write`."""
    size: tuple[int, int]
    """Width and height."""
    fingerprint: str = ""
    """Fingerprint of the image file, where that exists."""

    def check(self, name: str) -> None:
        """Check that the arrays are of one image.

        Raises:
            ValueError: they have other shapes than the keypoints, or numbers that are not finite.
        """
        try:
            checked_arrays(self.features, len(self.features["keypoints"]))
        except ValueError as error:
            raise ValueError(
                f"{self.path}: of the image {name!r} the {error}; make it again."
            ) from error
        if not all(0 < side <= MAX_SIDE for side in self.size):
            raise ValueError(
                f"{self.path}: the image {name!r} has the size {self.size[0]}×{self.size[1]}, not "
                f"1 to {MAX_SIDE} pixels; correct it."
            )


def found_image(
    path: Path, features: dict[str, np.ndarray], image_dir: Path, name: str, transfer: Transfer
) -> FoundImage | None:
    """Return the features that a file has of an image; ``transfer`` lists an unreadable one."""
    try:
        size = read_image_size(image_dir / name)
    except (ValueError, OSError) as error:
        transfer.skipped[name] = str(error)
        return None
    return FoundImage(path, features, size, file_fingerprint(image_dir / name))


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
    names: Mapping[str, str],
    read: Callable[[str], FoundImage | None],
    found_matches: Iterable[FoundMatches] = (),
) -> Transfer:
    """Write what is read from another format into a feature file and a match file.

    Where something turns out to be wrong, neither file is written, and those that were to be
    replaced stay.

    Args:
        source: name of the format, kept in the files.
        files: the feature file and the match file to write.
        transfer: counts what is written, and lists what is left out.
        names: the images' names, and the normal form of each.
        read: reads an image by name, or lists it as skipped and returns None.
        found_matches: the matches, read pair by pair after the images.

    Raises:
        FileExistsError: one of the files exists already.
        ValueError: a file to replace is something else, no image is left, an image's arrays do not
            fit, or matches are of unknown images or keypoints.
    """
    features, matches = Path(files.features), files.matches and Path(files.matches)
    for path in filter(None, (features, matches)):
        check_replaceable(path, files.overwrite)
    conf = {"imported_from": source}
    file_ids: list[str] = []

    def write_features(part: Path) -> None:
        with FeatureWriter(part, Provenance("features", conf)) as writer:
            for name, form in names.items():
                if (image := read(name)) is None:
                    continue
                image.check(name)
                writer.write(form, image.features, image.size, 1.0, image.fingerprint)
                transfer.counts[form] = len(image.features["keypoints"])
        if not transfer.counts:
            raise ValueError(next(iter(transfer.skipped.values())))
        file_ids.append(writer.provenance.file_id)

    def write_match_file(part: Path) -> None:
        inputs: dict[str, str | None] = dict.fromkeys(("features", "features_ref"), file_ids[0])
        with MatchWriter(part, Provenance("matches", conf, inputs=inputs)) as writer:
            _write_matches(writer, found_matches, names, transfer)

    with ExitStack() as locks:

        def replace_matches(_: Path) -> None:
            """Replace the match file right before the feature file, when the disk has both."""
            if matches:
                write_whole(matches, write_match_file, prepare)
            else:
                prepare(Path())

        def prepare(_: Path) -> None:
            if os.name == "nt":  # where a file in use cannot be replaced
                locks.close()
            locks.enter_context(delayed_interrupts(also_second=True))

        for target, kind in ((features, "features"), (matches, "matches")):
            if target and target.exists():
                locks.enter_context(lock_replaceable(target, kind))
        write_whole(features, write_features, replace_matches)
    return transfer


def _write_matches(
    writer: MatchWriter,
    found_matches: Iterable[FoundMatches],
    names: Mapping[str, str],
    transfer: Transfer,
) -> None:
    skipped = set(transfer.skipped)
    seen: set[Pair] = set()
    for (name0, name1), indices, scores, path in found_matches:
        pair = names.get(name0, name0), names.get(name1, name1)
        key = min(pair, pair[::-1])
        if not skipped.isdisjoint((name0, name1)):
            reason = "of an image that was left out"
        elif key in seen or pair[0] == pair[1]:
            reason = "which is listed twice, or of one image"
        else:
            reason = ""
        seen.add(key)
        if reason:
            transfer.skipped[" ".join(pair)] = f"{path}: the pair {' '.join(pair)}, {reason}"
            continue
        _check_indices(indices, pair, transfer, path)
        if scores is None:
            scores = np.ones(len(indices), np.float32)
        _write_pair(writer, pair, indices, scores, transfer)


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
