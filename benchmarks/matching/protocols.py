"""The protocols: the rules by which papers measure matching."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace

import numpy as np

from benchmarks.matching.measuring import (
    PairMeasures,
    measure_average_precision,
    measure_epipolar,
    measure_plane,
    measure_plane_covisible,
    measure_recall,
    measure_shared,
    measure_visible_part,
)
from benchmarks.matching.pair_means import pair_columns, summarise
from benchmarks.pairs.datasets import evd, wxbs
from benchmarks.pairs.datasets.hpatches import LARGE_SEQUENCES
from benchmarks.pairs.datasets.rdnim import NUM_PAIRS
from benchmarks.pairs.pair_protocol import PairProtocol, by_part
from benchmarks.pairs.pair_set import ImagePair
from benchmarks.record import Row


@dataclass(frozen=True)
class Protocol(PairProtocol):
    """Rules of a paper that compares matches with a known geometry."""

    shown: tuple[str, ...]
    """Metrics that a table shows in addition to the matching accuracy."""
    _: KW_ONLY
    by_sequence: bool = False
    """Whether each sequence has a row of its own."""

    @property
    def has_homographies(self) -> bool:
        """Whether homographies are estimated from the matches, and by OpenCV's RANSAC."""
        return self.measure in (
            *(measure_plane, measure_plane_covisible, measure_shared),
            measure_visible_part,
        )

    def rows(
        self, row: Row, pairs: Sequence[ImagePair], measures: Sequence[PairMeasures]
    ) -> list[Row]:
        """Return a row of the whole data set, and one of each part."""
        rows = []
        for part, selected in by_part(pairs, self.by_sequence).items():
            metrics, curves = summarise(
                [pairs[i] for i in selected],
                [measures[i] for i in selected],
                with_mma=not self.one_way,  # MMA is defined for mutual neighbours
            )
            rows.append(replace(row, part=part, metrics=metrics, curves=curves))
        return rows

    def pair_values(
        self, row: Row, pairs: Sequence[ImagePair], measures: Sequence[PairMeasures]
    ) -> dict[str, np.ndarray]:
        """Return the values of all pairs."""
        return pair_columns(measures, with_mma=not self.one_way)


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
        Protocol(
            *("recall-contextdesc", "hpatches", measure_recall, ("recall",)),
            max_keypoints=2048,
            one_way=True,
        ),
        # LISRD (Pautrat et al., ECCV 2020, section 4.1).
        Protocol(
            *("lisrd-480x640", "hpatches", measure_shared, _SHARED),
            max_keypoints=2000,
            size=(640, 480),
        ),
        # MTLDesc (Wang et al., AAAI 2022, "Experiments"); M.S. and HA are those at 3 px.
        Protocol(
            *("mtldesc-hpatches", "hpatches", measure_plane_covisible, _PLANE),
            left_out=LARGE_SEQUENCES,
        ),
        Protocol(
            *("oxford-mma", "oxford", measure_plane, _PLANE),
            max_keypoints=2048,
            by_sequence=True,
        ),
        # DOAP (He et al., CVPR 2018, section 5.4), at a conf's own keypoints instead of
        # Harris-Affine's.
        Protocol(
            *("oxford-ap", "oxford", measure_average_precision, ("average_precision",)),
            max_keypoints=2048,
            one_way=True,
            by_sequence=True,
        ),
        Protocol(
            *("rdnim", "rdnim", measure_shared, _SHARED),
            max_keypoints=2000,
            num_pairs={"day": NUM_PAIRS, "night": NUM_PAIRS},
        ),
        # WxBS 1.1 and EVD as their package, wxbs-benchmark, measures them, whose baseline has
        # 8,000 keypoints.
        Protocol(
            *("wxbs", "wxbs", measure_epipolar, ("correspondence_maa_10", "recall")),
            max_keypoints=8000,
            num_pairs={"all": wxbs.NUM_PAIRS},
        ),
        Protocol(
            *("evd", "evd", measure_visible_part, ("homography_maa_20", *_PLANE)),
            max_keypoints=8000,
            num_pairs={"all": evd.NUM_PAIRS},
        ),
    )
}
"""Name to protocol; the first one of each layout is the default."""
