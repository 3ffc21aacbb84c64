"""Pairs on which a method failed: they count as pairs in which it found nothing."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.choices import FAILURES
from benchmarks.pairs.feature_pairs import featureless_pair
from benchmarks.pairs.pair_protocol import MeasuredPair, PairProtocol
from benchmarks.pairs.pair_set import ImagePair
from benchmarks.record import counted
from featplug.io.images import read_image


def measured_failures(
    protocol: PairProtocol, pairs: Mapping[int, ImagePair], folder: Path, is_detected: bool
) -> dict[int, MeasuredPair]:
    """Measure pairs without keypoints and matches, by their number.

    Left out are pairs with an image that cannot be read, for which no method is to blame.

    Args:
        protocol: rules of measuring.
        pairs: pairs of which the method returned nothing.
        folder: folder of the images.
        is_detected: whether the method detects keypoints in each image alone.
    """
    measures = {}
    for number, pair in pairs.items():
        try:
            sizes = [read_image(folder / name).shape for name in (pair.name0, pair.name1)]
            (height0, width0, *_), (height1, width1, *_) = sizes
            nothing = featureless_pair(((width0, height0), (width1, height1)), is_detected)
            measure = protocol.measure(pair, nothing)
        except FAILURES:  # whatever image or protocol it is, the method's problem is known
            continue
        # The keypoints of an image may be known from other pairs.
        measures[number] = replace(measure, num_keypoints=None)
    return measures


def failures_text(num_failures: int, num_left_out: int) -> str | None:
    """Return what a record says of the pairs without matches; None where all have some."""
    texts = []
    if num_failures:
        lacking = counted(num_failures, "pair lacks", "pairs lack")
        verb = "counts as a failure" if num_failures == 1 else "count as failures"
        texts.append(f"{lacking} features or matches and {verb}")
    if num_left_out:
        lacking = counted(num_left_out, "pair lacks", "pairs lack")
        verb = "is" if num_left_out == 1 else "are"
        texts.append(f"{lacking} features for a damaged image and {verb} left out")
    return "; ".join(texts) or None
