"""What a protocol of image pairs is: which pairs are measured, with how many keypoints, and how."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np

from benchmarks.pairs.feature_pairs import FeaturePair
from benchmarks.pairs.pair_set import ImagePair, PairSet
from benchmarks.record import Row, counted


class NotDefinedError(ValueError):
    """A figure is not defined for a method."""


@dataclass(frozen=True)
class MeasuredPair:
    """What every protocol measures of one pair."""

    points: tuple[np.ndarray, np.ndarray]
    """Matched keypoints, K×2 of each image."""
    num_keypoints: tuple[int, int] | None
    """Number of keypoints that were matched, of each image; None where none were detected."""
    scores: np.ndarray
    """Scores of the matches, K; the most certain match has the highest."""
    errors: np.ndarray | None = None
    """Errors of the matches, K in pixels; None where they are not known."""


@dataclass(frozen=True)
class PairProtocol(ABC):
    """Rules of published numbers."""

    name: str
    layout: str
    """Layout of its data sets."""
    measure: Callable[[ImagePair, FeaturePair], Any]
    """Returns a :class:`MeasuredPair`, or a class of its own that extends it."""
    _: KW_ONLY
    max_keypoints: int | None = None
    """Number of keypoints of each image, the strongest by score; the conf's own if None."""
    size: tuple[int, int] | None = None
    """(width, height) that images are resized and cropped to; None leaves them as they are."""
    one_way: bool = False
    """Whether nearest neighbours from image 0 to image 1 are matched without the mutual check."""
    left_out: tuple[str, ...] = ()
    """Sequences that are left out."""
    num_pairs: dict[str, int] = field(default_factory=dict)
    """Part, or ``all``, to its number of pairs, where the names of sequences are not known."""
    resize_max: int | None = None
    """Longer side that larger photographs are reduced to before features are extracted; the conf's
    own if None. Unlike ``size`` it changes neither the images nor the pixels of keypoints."""
    leaves_settings: bool = False
    """Whether matcher, number of keypoints and size of images are not part of the rules, but of
    each published number, and so are matchers of two images."""
    keeps_matches: bool = False
    """Whether matches are kept in a file; ``measure`` may then read nothing but the matches, the
    matched keypoints, their number, and the sizes of the images."""
    second_stage: ClassVar[str | None] = None
    """Name of the stage :meth:`complete`, if there is one."""

    @abstractmethod
    def rows(self, row: Row, pairs: Sequence[ImagePair], measures: Sequence[Any]) -> list[Row]:
        """Return the rows of one method: copies of ``row`` with metrics, the main one first."""

    def complete(self, pairs: Sequence[ImagePair], measures: Sequence[Any]) -> Iterable[Any]:
        """Measure what a second stage measures of all pairs; return their measures in order."""
        return measures

    @property
    def settings(self) -> Mapping[str, Any]:
        """Options of :meth:`complete` that its figures depend on, as JSON values."""
        return {}

    def pair_values(
        self, row: Row, pairs: Sequence[ImagePair], measures: Sequence[Any]
    ) -> dict[str, np.ndarray]:
        """Return the values of all pairs behind the metrics of a row of the part ``all``.

        They are kept in the row's CSV file, and decide how sure its metrics are: a metric that is a
        mean over pairs has a column of its own name, :mod:`benchmarks.bootstrap` has the others.

        Args:
            row: one of :meth:`rows`; its estimator and seed are those of the values.
            pairs: all N measured pairs.
            measures: what was measured of them.

        Returns:
            Name to N values, NaN where a pair was not measured; nothing by default.
        """
        return {}

    @property
    def rules(self) -> tuple[object, ...]:
        """Rules that the figures of one pair depend on."""
        return self.measure, self.max_keypoints, self.size, self.one_way, self.resize_max

    def pairs(self, pair_set: PairSet) -> list[ImagePair]:
        """Return the pairs to measure."""
        return [pair for pair in pair_set.pairs if pair.sequence not in self.left_out]

    def deviation(self, pair_set: PairSet) -> str | None:
        """Return how a data set on disk differs from the protocol's; None where it does not."""
        reasons = []
        expected = [name for name in pair_set.sequences if name not in self.left_out]
        present = {pair.sequence for pair in self.pairs(pair_set)}
        missing = [name for name in expected if name not in present]
        if missing:
            number = f"{len(missing)} of {counted(len(expected), 'sequence')}"
            verb = "is" if len(missing) == 1 else "are"
            reasons.append(f"{number} {verb} missing ({_some(missing)})")
        others = sorted(present - set(expected)) if expected else []
        if others:
            number = counted(len(others), "sequence is", "sequences are")
            reasons.append(f"{number} of another data set ({_some(others)})")
        damaged = [
            problem.subject
            for problem in pair_set.problems
            if problem.subject.split("/")[0] not in self.left_out
        ]
        if damaged:
            number = counted(len(damaged), "pair or image", "pairs or images")
            reasons.append(f"{number} cannot be used ({_some(damaged)})")
        for part, num_pairs in self.num_pairs.items():
            num_present = sum(part in ("all", pair.part) for pair in pair_set.pairs)
            if num_present != num_pairs:
                named = "pairs" if part == "all" else f"pairs of {part}"
                reasons.append(f"{named}: {num_present}, not {num_pairs}")
        return "; ".join(reasons) or None


Chosen = TypeVar("Chosen", bound=PairProtocol)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def choose_protocols(
    protocols: Mapping[str, Chosen], layout: str, names: Sequence[str]
) -> list[Chosen]:
    """Look up the requested protocols of a layout, or its first one.

    Raises:
        ValueError: the layout has no protocol of that name, or none at all.
    """
    able = {name: p for name, p in protocols.items() if p.layout == layout}
    if not able:
        known = ", ".join(dict.fromkeys(p.layout for p in protocols.values()))
        raise ValueError(f"The layout of {layout} has no protocol here; use one of {known}.")
    for name in names:
        if name not in able:
            raise ValueError(
                f"The layout of {layout} has no protocol {name!r}; use one of {', '.join(able)}."
            )
    return [able[name] for name in dict.fromkeys(names)] or [next(iter(able.values()))]


def by_part(pairs: Sequence[ImagePair], by_sequence: bool = False) -> dict[str, list[int]]:
    """Map each part of the table, first ``all``, to the indices of its pairs."""
    parts: dict[str, list[int]] = {"all": list(range(len(pairs)))}
    for i, pair in enumerate(pairs):
        name = pair.sequence if by_sequence else pair.part
        if name is not None:
            parts.setdefault(name, []).append(i)
    return parts
