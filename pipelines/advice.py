"""Advice on the feature and the matcher, from the measured table of docs/compare.md."""

from collections.abc import Mapping
from typing import Any

MEASURED = {
    "contextdesc+NN-mutual": (590, 120),
    "mtldesc+mtldesc": (613, 264),
    "doap+NN-mutual": (588, 140),
    "d2net+NN-mutual": (325, 308),
    "lisrd+lisrd": (548, 324),
    "aliked-n16+NN-mutual": (748, 354),
    "aliked-n16+lightglue": (822, 130),
    "disk+NN-mutual": (764, 192),
    "disk+lightglue": (871, 122),
    "xfeat+NN-mutual": (434, 476),
    "xfeat+lighterglue": (479, 186),
    "sift+NN-mutual": (586, 247),
    "sift+NN-ratio": (509, 41),
    "hloc/sift+NN-mutual": (459, 217),
}
"""Feature and matcher to the numbers of right and wrong matches per pair of Oxford."""
_BEST = "aliked-n16+lightglue"
"""Method of the smallest camera errors (Herz-Jesus-P8) among those of most right matches."""
_NEXT = "disk+lightglue"
_FEW_MISSING = 0.1
"""Fraction of images that a model may lack without advice, as one that shows something else."""
_MOST_ERROR = 1.0
"""Reprojection error in pixels of a model whose keypoints are placed coarsely."""


def advice(results: Mapping[str, Any]) -> list[str]:
    """Return which feature and matcher would help a reconstruction, at most one sentence.

    There is none for a model of nearly all images with precise keypoints.
    """
    values = {name: entry["value"] for name, entry in results["metrics"].items()}
    used = f"{results['feature']}+{results['matcher']}"
    num, of = values["registered_images"], values["images"] - len(results["data"]["skipped"])
    if of - num > max(1, _FEW_MISSING * of):
        better = _NEXT if used == _BEST else _BEST
        if used == better:
            return []
        return [
            f"{num} of {of} images are in the model: try --feature {better}, which finds "
            f"{_matches(better)} of a pair on Oxford{_compared(used)} (docs/compare.md)"
        ]
    error = values["mean_reprojection_error"]
    if error > _MOST_ERROR and used.partition("+")[0] in ("xfeat", "d2net", "d2net-ms"):
        return [
            f"the reprojection error is {error:.2f} px, as these keypoints are placed coarsely: "
            f"try --feature {_BEST}, or sift, which have less than 0.8 px on Herz-Jesus-P8 "
            "(docs/compare.md)"
        ]
    return []


def _compared(used: str) -> str:
    return f", {used} {_matches(used)}" if used in MEASURED else ""


def _matches(method: str) -> str:
    right, wrong = MEASURED[method]
    return f"{right} right and {wrong} wrong matches"
