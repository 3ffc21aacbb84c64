"""The protocols: the rules by which papers measure matching."""

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.matching.datasets.hpatches import LARGE_SEQUENCES
from benchmarks.matching.datasets.rdnim import NUM_PAIRS
from benchmarks.matching.feature_pairs import FeaturePair
from benchmarks.matching.image_pairs import ImagePair, PairSet
from benchmarks.matching.measuring import (
    PairMeasures,
    measure_average_precision,
    measure_epipolar,
    measure_plane,
    measure_plane_covisible,
    measure_recall,
    measure_shared,
)
from benchmarks.record import counted


@dataclass(frozen=True)
class Protocol:
    """Rules of published numbers."""

    name: str
    layout: str
    """Layout of its data sets."""
    measure: Callable[[ImagePair, FeaturePair], PairMeasures]
    shown: tuple[str, ...]
    """Metrics that a table shows in addition to the matching accuracy."""
    max_keypoints: int | None = None
    """Number of keypoints of each image, the strongest by score; the conf's own if None."""
    size: tuple[int, int] | None = None
    """(width, height) that images are resized and cropped to; None leaves them as they are."""
    one_way: bool = False
    """Whether nearest neighbours from image 0 to image 1 are matched without the mutual check."""
    left_out: tuple[str, ...] = ()
    """Sequences that are left out."""
    num_pairs: dict[str, int] = field(default_factory=dict)
    """Part to its number of pairs, where the names of sequences are not known."""
    by_sequence: bool = False
    """Whether each sequence has a row of its own."""

    @property
    def rules(self) -> tuple[object, ...]:
        """Rules that the figures of one pair depend on."""
        return self.measure, self.max_keypoints, self.size, self.one_way

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
            num_present = sum(pair.part == part for pair in pair_set.pairs)
            if num_present != num_pairs:
                reasons.append(f"pairs of {part}: {num_present}, not {num_pairs}")
        return "; ".join(reasons) or None


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


_PLANE = ("match_score", "repeatability", "homography_accuracy_3")
_SHARED = ("homography_accuracy_3", "precision", "recall")

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        # D2-Net (Dusmanu et al., CVPR 2019, section 4.1): 540 pairs, all keypoints.
        Protocol("mma-d2net", "hpatches", measure_plane, _PLANE, left_out=LARGE_SEQUENCES),
        Protocol("mma-116", "hpatches", measure_plane, _PLANE),
        # ContextDesc (Luo et al., CVPR 2019, section 4.3), whose 2,048 keypoints are drawn at
        # random, or by scale in the released code; here they are the strongest.
        Protocol("recall-contextdesc", "hpatches", measure_recall, ("recall",), 2048, one_way=True),
        # LISRD (Pautrat et al., ECCV 2020, section 4.1).
        Protocol("lisrd-480x640", "hpatches", measure_shared, _SHARED, 2000, size=(640, 480)),
        # MTLDesc (Wang et al., AAAI 2022, "Experiments"); M.S. and HA are those at 3 px.
        Protocol(
            *("mtldesc-hpatches", "hpatches", measure_plane_covisible, _PLANE),
            left_out=LARGE_SEQUENCES,
        ),
        Protocol("oxford-mma", "oxford", measure_plane, _PLANE, 2048, by_sequence=True),
        # DOAP (He et al., CVPR 2018, section 5.4), at a conf's own keypoints instead of
        # Harris-Affine's.
        Protocol(
            *("oxford-ap", "oxford", measure_average_precision, ("average_precision",), 2048),
            one_way=True,
            by_sequence=True,
        ),
        Protocol(
            *("rdnim", "rdnim", measure_shared, _SHARED, 2000),
            num_pairs={"day": NUM_PAIRS, "night": NUM_PAIRS},
        ),
        Protocol("wxbs", "wxbs", measure_epipolar, ("recall",), 8000),
    )
}
"""Name to protocol; the first one of each layout is the default."""


def choose_protocols(layout: str, names: tuple[str, ...]) -> list[Protocol]:
    """Look up the requested protocols, or the layout's main one.

    Raises:
        ValueError: the layout has no protocol of that name.
    """
    able = {name: p for name, p in PROTOCOLS.items() if p.layout == layout}
    for name in names:
        if name not in able:
            raise ValueError(
                f"The layout of {layout} has no protocol {name!r}; use one of {', '.join(able)}."
            )
    return [able[name] for name in dict.fromkeys(names)] or [next(iter(able.values()))]
