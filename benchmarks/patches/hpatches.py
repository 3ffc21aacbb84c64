"""Verification, matching and retrieval on HPatches' patches (Balntas et al., CVPR 2017).

A sequence is a folder with ``ref.png``, the reference image's patches, and ``e1.png`` … ``t5.png``,
the same patches in the five others with easy, hard and tough geometric noise; each file is a column
of 65×65 pixels. Verification and retrieval read lists of patches, such as
``verif_pos_split-a.csv``.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.patches.dataset import Parts, PatchSet
from benchmarks.record import Problem
from featplug.io.images import read_image
from featplug.io.metric_table import with_units
from featplug.io.names import checked_name
from featplug.io.text_tables import read_integers
from featplug.metrics.patch_tasks import (
    matching_average_precision,
    pair_distances,
    retrieval_average_precision,
    squared_distances,
    verification_average_precision,
)
from featplug.weights.checkpoints import git_blob_id

LEVELS = ("easy", "hard", "tough")
KINDS = ("ref", *(f"{level[0]}{image}" for level in LEVELS for image in range(1, 6)))
"""Names of a sequence's files, in the order of their descriptors."""
SIDE = 65

PAIRS = ("s1", "t1", "idx1", "s2", "t2", "idx2")
"""Columns of a list of pairs: sequence, image (0 is the reference) and patch, twice."""
PATCHES = ("s", "idx")
"""Columns of a list of patches of reference images."""
_VERIFICATION = ("verif_pos", "verif_neg_inter", "verif_neg_intra")
_RETRIEVAL = ("retr_queries", "retr_distractors")
LISTS = {**dict.fromkeys(_VERIFICATION, PAIRS), **dict.fromkeys(_RETRIEVAL, PATCHES)}
"""List to its columns."""

PUBLISHED_LISTS = {
    "a": {
        "verif_pos": "cdea234c2f368e8d499974b2d57c90786edf03ea",
        "verif_neg_inter": "eeb6f9e5667c80fe3bf70fd1c1ad420c59464272",
        "verif_neg_intra": "2e9b16b96c7c3442b9aad1fddbe5a5ef36c5eb9e",
        "retr_queries": "02c1941eeb64229e0a9c6fd1eee13d9ab6dcee32",
        "retr_distractors": "40f2ec9c67b3d6f399e713402bf839b2a776c0a1",
    },
    "full": {
        "verif_pos": "8d2e3c91f0a715fd5eb9e9562d4f153210c4c53b",
        "verif_neg_inter": "0174187de6d9fc83e574cb83ea15e6c222c11311",
        "verif_neg_intra": "fa411d6b7b65de01ba9e6aca0cc138d62785e4b5",
        "retr_queries": "c6611e510e4c8a56d75acbb4289fc12316f48a50",
        "retr_distractors": "905a803f7dfdbf545be669af73dcebe346941634",
    },
}
"""Git's ids of the published lists, for the splits of published numbers."""

TOOLBOX_DISTRACTORS = 2000
"""Default number of distractors in HPatches' MATLAB toolbox, out of 20,000."""

_LEAST = 5
"""Minimum length of a list: verification takes a fifth as many matching pairs as others."""
_CHUNK = 64
"""Number of queries at a time."""


class HPatches(PatchSet):
    """The sequences in the lists of a split; see :class:`benchmarks.patches.__main__.PatchOptions`.

    Raises:
        FileNotFoundError: the lists are missing.
        ValueError: no sequence of the lists is complete.
    """

    name = "hpatches-patches"
    source = (
        "HPatches' patches: hpatches.github.io, hpatches-release.tar.gz, 4.2 GB; its lists: tasks "
        "of github.com/hpatches/hpatches-benchmark."
    )

    def __init__(
        self,
        folder: Path,
        split: str = "a",
        tasks: Path | None = None,
        num_distractors: int | None = None,
    ) -> None:
        self.folder = folder
        self.protocol = f"hpatches-patches-{split}"
        self.split = split
        self.problems = []
        self.tasks = tasks or _find_tasks(folder)
        self._num_distractors = num_distractors
        numbers: dict[str, int] = {}
        self.lists: dict[str, np.ndarray] = {}
        for name, columns in LISTS.items():
            try:
                self.lists[name] = _read_list(self._list_file(name), columns, numbers)
            except (ValueError, OSError) as error:
                self.problems.append(Problem(f"{self.name} {name}", str(error)))
        if not self.lists:
            raise FileNotFoundError(f"{self.tasks} has no lists of split {split}.")
        self.sizes: dict[str, int] = {}
        for sequence in sorted(numbers):
            try:
                self.sizes[sequence] = _count_patches(folder / sequence)
            except (ValueError, OSError) as error:
                self.problems.append(Problem(f"{self.name} {sequence}", str(error)))
        if not self.sizes:
            raise ValueError(
                f"{folder} has no complete sequence of the lists in {self.tasks}, such as "
                f"{min(numbers)}."
            )
        self.not_comparable = self._why_not(len(numbers))
        self._rows = _Rows(self.sizes, numbers)
        self._drop_missing(numbers)

    def _list_file(self, name: str) -> Path:
        return self.tasks / f"{name}_split-{self.split}.csv"

    def _why_not(self, num_named: int) -> str | None:
        if len(self.sizes) < num_named:
            return f"{len(self.sizes)} of {num_named} sequences."
        listed, taken = len(self.lists.get("retr_distractors", ())), self._num_distractors
        if taken not in (None, TOOLBOX_DISTRACTORS) and taken < listed:
            return f"Retrieval is among {taken:,} of the {listed:,} distractors."
        published = PUBLISHED_LISTS.get(self.split)
        if published is None:
            return None
        for name, blob in published.items():
            file = self._list_file(name)
            if name not in self.lists:
                return f"{file.name} is missing."
            if git_blob_id(file) != blob:
                return f"{file.name} is not the published list."
        return None

    def _drop_missing(self, numbers: dict[str, int]) -> None:
        """Leave out the entries of missing sequences, and check the others.

        Raises:
            ValueError: a list names a patch that its sequence does not have.
        """
        names = list(numbers)
        for name, patches in list(self.lists.items()):
            sizes = self._rows.sizes[patches[..., 0]]
            exists = (sizes > 0).all(1)
            wrong = (patches[..., 2] < 0) | (patches[..., 2] >= sizes)
            if wrong[exists].any():
                sequence, _, patch = patches[exists][wrong[exists]][0]
                raise ValueError(
                    f"{self._list_file(name)} names patch {patch} of {names[sequence]}, which has "
                    f"{self.sizes[names[sequence]]}."
                )
            self.lists[name] = patches[exists]
            if exists.sum() < _LEAST:
                reason = f"{exists.sum()} of its rows are of sequences that exist."
                self.problems.append(Problem(f"{self.name} {name}", reason))
                del self.lists[name]

    def files(self) -> list[str]:
        """Return the files of the sequences; see :class:`PatchSet`."""
        return [f"{sequence}/{kind}.png" for sequence in self.sizes for kind in KINDS]

    def num_patches(self) -> int:
        """Count the patches of all images."""
        return sum(self.sizes.values()) * len(KINDS)

    def patches(self) -> Iterator[np.ndarray]:
        """Yield the patches of each file of each sequence; see :class:`PatchSet`."""
        for sequence, size in self.sizes.items():
            for kind in KINDS:
                column = read_image(self.folder / sequence / f"{kind}.png", grayscale=True)
                yield column.reshape(size, SIDE, SIDE)

    def measure(self, descriptors: np.ndarray) -> Parts:
        """Measure the three tasks, as far as their lists exist; see :class:`PatchSet`."""
        parts: Parts = {level: {} for level in (*LEVELS, "all")}
        if self.lists.keys() >= set(_VERIFICATION):
            self._verify(descriptors, parts)
        self._match(descriptors, parts)
        if self.lists.keys() >= set(_RETRIEVAL):
            self._retrieve(descriptors, parts)
        return parts

    def _verify(self, descriptors: np.ndarray, parts: Parts) -> None:
        imbalanced: dict[str, list[float]] = {level: [] for level in LEVELS}
        balanced: dict[str, list[float]] = {level: [] for level in LEVELS}
        for level in LEVELS:
            matching, inter, intra = (
                pair_distances(descriptors, *self._rows.of(self.lists[name], level).T)
                for name in _VERIFICATION
            )
            for kind, others in (("inter", inter), ("intra", intra)):
                precision = verification_average_precision(matching, others)
                imbalanced[level].append(precision)
                balanced[level].append(verification_average_precision(matching, others, ratio=None))
                parts[f"{kind}-{level}"] = with_units({"verification_map": precision})
        _add_means(parts, "verification_map", imbalanced)
        _add_means(parts, "verification_map_balanced", balanced)

    def _match(self, descriptors: np.ndarray, parts: Parts) -> None:
        precisions: dict[str, list[float]] = {level: [] for level in LEVELS}
        changes: dict[str, list[float]] = {}
        for sequence, size in self.sizes.items():
            change = {"i": "illumination", "v": "viewpoint"}.get(sequence.split("_")[0])
            start = self._rows.first[sequence]
            images = descriptors[start : start + size * len(KINDS)].reshape(len(KINDS), size, -1)
            for level in LEVELS:
                others = [images[KINDS.index(f"{level[0]}{image}")] for image in range(1, 6)]
                of_level = [matching_average_precision(images[0], other) for other in others]
                precisions[level] += of_level
                if change:
                    changes.setdefault(f"{change}-{level}", []).extend(of_level)
        _add_means(parts, "matching_map", precisions)
        for part, values in changes.items():
            parts[part] = with_units({"matching_map": float(np.mean(values))})

    def _retrieve(self, descriptors: np.ndarray, parts: Parts) -> None:
        queries = self.lists["retr_queries"][:, 0]
        distractors = self.lists["retr_distractors"][: self._num_distractors, 0]
        searched = descriptors[self._rows.of(distractors, "easy")]
        precisions: dict[str, list[float]] = {level: [] for level in LEVELS}
        for start in range(0, len(queries), _CHUNK):
            chunk = queries[start : start + _CHUNK]
            described = descriptors[self._rows.of(chunk, "easy")]
            distances = squared_distances(described, searched)
            # Patches of one sequence may show the same surface, so they are not distractors.
            distances[chunk[:, :1] == distractors[:, 0]] = np.inf
            others = chunk[:, None] + np.array([[0, image, 0] for image in range(1, 6)])
            for level in LEVELS:
                relevant = descriptors[self._rows.of(others, level)]
                apart = ((relevant - described[:, None]) ** 2).sum(-1)
                precisions[level] += map(retrieval_average_precision, apart, distances)
        _add_means(parts, "retrieval_map", precisions)


class _Rows:
    """Index from patches to the rows of their descriptors.

    Args:
        sizes: sequence to its number of patches, in the order of the descriptors.
        numbers: sequence to its number in the lists, missing sequences included.
    """

    def __init__(self, sizes: dict[str, int], numbers: dict[str, int]) -> None:
        self.first: dict[str, int] = {}
        """Row of a sequence's first descriptor."""
        self.sizes, self._starts = np.zeros((2, len(numbers)), int)
        start = 0
        for sequence, size in sizes.items():
            self.first[sequence] = start
            self.sizes[numbers[sequence]], self._starts[numbers[sequence]] = size, start
            start += size * len(KINDS)

    def of(self, patches: np.ndarray, level: str) -> np.ndarray:
        """Return the rows of patches, (…)×3 sequence, image and patch, with a level's noise."""
        sequences, images, index = np.moveaxis(patches, -1, 0)
        kinds = np.where(images == 0, 0, images + 5 * LEVELS.index(level))
        return self._starts[sequences] + kinds * self.sizes[sequences] + index


def _add_means(parts: Parts, name: str, values: dict[str, list[float]]) -> None:
    """Add the mean of each level, and the mean of all values."""
    pooled = [value for of_level in values.values() for value in of_level]
    for part, of_part in {**values, "all": pooled}.items():
        parts[part].update(with_units({name: float(np.mean(of_part))}))


def _find_tasks(folder: Path) -> Path:
    above = folder.resolve()
    for place in (above, *list(above.parents)[:2]):
        if (place / "tasks").is_dir():
            return place / "tasks"
    raise FileNotFoundError(
        f"Neither {folder} nor the two folders above it have a folder tasks; give the folder tasks "
        "of hpatches-benchmark by --tasks."
    )


def _read_list(file: Path, columns: tuple[str, ...], numbers: dict[str, int]) -> np.ndarray:
    """Read a list as N×E×3: sequence, image and index of each patch of a row.

    ``numbers`` maps sequences to their numbers, and gets the new ones.
    """
    where = str(file)

    def number(sequence: str) -> int:
        return numbers.setdefault(checked_name(sequence, where), len(numbers))

    rows = read_integers(
        file,
        "list of patches",
        len(columns),
        header=",".join(columns),
        delimiter=",",
        converters={i: number for i, column in enumerate(columns) if column.startswith("s")},
    )
    if columns == PATCHES:
        return np.insert(rows, 1, 0, axis=1)[:, None]
    patches = rows.reshape(-1, 2, 3)
    if not np.isin(patches[..., 1], np.arange(6)).all():
        raise ValueError(f"{file} names images other than 0 to 5.")
    return patches


def _count_patches(folder: Path) -> int:
    """Count the patches of a sequence, and check that each file has as many."""
    sizes = {}
    for kind in KINDS:
        file = folder / f"{kind}.png"
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing.")
        height, width = read_image(file, grayscale=True).shape
        if width != SIDE or height % SIDE or not height:
            raise ValueError(f"{file} has {width}×{height} pixels, not a column of 65×65.")
        sizes[kind] = height // SIDE
        if sizes[kind] != sizes["ref"]:
            raise ValueError(f"{file} has {sizes[kind]} patches, but ref.png has {sizes['ref']}.")
    return sizes["ref"]
