"""Matching accuracy of features on image pairs whose geometry is known.

``python -m benchmarks.matching --dataset DIR --feature NAME [NAME …]`` measures sequences of
HPatches, Oxford, RDNIM or EVD, which homographies relate, or pairs of WxBS. The layout is
recognised by the folder's files; ``--protocol`` selects one or more papers' rules. Feature and
match files of any tool are measured as ``--features NAME=FILE --matches NAME=FILE``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from benchmarks.console import NOTHING, conclude, table_lines
from benchmarks.matching.pair_means import AMONG
from benchmarks.matching.protocols import PROTOCOLS, Protocol
from benchmarks.pairs.pair_benchmark import PairOptions, run_pair_benchmark
from benchmarks.record import Row
from featplug.cli.command_line import Unprefixed, run_command

_HEADS = {
    "match_score": "M.S.",
    "repeatability": "rep.",
    "homography_accuracy_3": "HA 3 px",
    "precision": "prec.",
    "recall": "recall",
    "average_precision": "AP",
    "correspondence_maa_10": "mAA 10 px",
    "homography_maa_20": "mAA 20 px",
}
"""Metric to its head in the console's tables."""
_OF_KEYPOINTS = ("match_score", "repeatability", "recall", "mean_keypoints")
_NOT_DEFINED = "not defined"
"""Entry for figures of keypoints of a method that detects none."""
_COUNTS = {
    **{f"right_among_{number}": f"right of {number:,}" for number in AMONG},
    "right_matches": "right",
    "wrong_matches": "wrong",
    "mean_keypoints": "keypoints",
}


@dataclass(frozen=True)
class MatchingOptions(PairOptions):
    """Image pairs to match, and the rules to measure by."""

    benchmark: ClassVar[str] = "matching"

    protocol: tuple[str, ...] = ()
    """Rules to measure by: mma-d2net, mma-116, recall-contextdesc, lisrd-480x640 and
    mtldesc-hpatches for HPatches, oxford-mma and oxford-ap for Oxford, rdnim, wxbs, evd; by default
    the first one of the layout."""


def _table(protocol: Protocol, rows: Sequence[Row]) -> list[str]:
    rows = [row for row in rows if row.protocol == protocol.name]
    thresholds = [t for t in (1, 3, 5, 10) if any(f"mma_{t}" in row.metrics for row in rows)]
    heads = {f"mma_{t}": f"MMA {t} px" for t in thresholds}
    heads |= {name: _HEADS[name] for name in protocol.shown}
    heads |= _COUNTS
    cells = [["feature", "part", *heads.values(), "matcher"]]
    for row in rows:
        lacks_keypoints = "mean_keypoints" not in row.metrics
        figures = [
            f"{row.metrics[name]['value']:.{0 if name in _COUNTS else 3}f}"
            if name in row.metrics
            else (_NOT_DEFINED if lacks_keypoints and name in _OF_KEYPOINTS else NOTHING)
            for name in heads
        ]
        cells.append([row.feature, row.part, *figures, row.matcher or ""])
    return ["", protocol.name, *table_lines(cells, "<<")] if rows else []


def main(options: Unprefixed[MatchingOptions]) -> None:
    """Measure how well features match image pairs whose geometry is known."""
    run, protocols = run_pair_benchmark(options, PROTOCOLS, progress=True)
    lines = [line for protocol in protocols for line in _table(protocol, run.rows)]
    conclude(run, options.output_dir, lines)


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.matching")
