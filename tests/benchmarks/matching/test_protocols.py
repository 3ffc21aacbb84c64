"""What is said of data that differ from those of a protocol."""

from __future__ import annotations

from pathlib import Path

from benchmarks.matching.protocols import PROTOCOLS
from benchmarks.pairs.pair_set import ImagePair, PairSet
from benchmarks.record import Problem


def rdnim(num_day: int, num_night: int, *damaged: str) -> PairSet:
    parts = ["day"] * num_day + ["night"] * num_night
    pairs = [ImagePair(f"{part}.jpg", "1.jpg", "00001", part) for part in parts]
    return PairSet("rdnim", Path(), pairs, [Problem(name, "damaged") for name in damaged])


def test_missing_pairs_are_counted_next_to_damaged_ones() -> None:
    assert PROTOCOLS["rdnim"].deviation(rdnim(1722, 1722)) is None
    assert PROTOCOLS["rdnim"].deviation(rdnim(1400, 1, "images/1/2.txt")) == (
        "1 pair or image cannot be used (images/1/2.txt); "
        "pairs of day: 1400, not 1722; pairs of night: 1, not 1722"
    )


def test_one_and_several_are_named_as_such() -> None:
    protocol = PROTOCOLS["oxford-mma"]
    names = ("bark", "bikes", "boat")

    def oxford(*sequences: str) -> PairSet:
        pairs = [ImagePair("1.ppm", "2.ppm", sequence) for sequence in sequences]
        return PairSet("oxford", Path(), pairs, sequences=names)

    assert protocol.deviation(oxford(*names)) is None
    assert protocol.deviation(oxford("bark", "bikes", "own")) == (
        "1 of 3 sequences is missing (boat); 1 sequence is of another data set (own)"
    )
    assert protocol.deviation(oxford("bark", "other", "own")) == (
        "2 of 3 sequences are missing (bikes, boat); "
        "2 sequences are of another data set (other, own)"
    )
