"""RDNIM, day and night images under rotations (Pautrat et al., ECCV 2020; images of DNIM).

``references/SEQUENCE/day.jpg`` and ``night.jpg``; ``images/SEQUENCE/*.jpg`` each with a ``.txt`` of
the same name, the homography that maps pixels of either reference to it. Every image is paired with
both references. (``time_stamps/`` is not needed.)
"""

from functools import partial
from pathlib import Path

from benchmarks.pairs.pair_set import ImagePair, PairSet, add_pair, read_homography

MARKS = ("references/*/*.jpg",)
SOURCE = (
    "RDNIM: cvg-data.inf.ethz.ch/RDNIM/RDNIM.zip (of github.com/rpautrat/LISRD), about 350 MB; no "
    "licence is stated."
)

NUM_PAIRS = 1722
"""Number of pairs of each reference in the released set."""
_REFERENCES = ("day", "night")


def read(folder: Path) -> PairSet:
    """Read all sequences of the folder."""
    pair_set = PairSet("rdnim", folder, [])
    for image in sorted(folder.glob("images/*/*.jpg")):
        truth = image.with_suffix(".txt")
        for part in _REFERENCES:
            add_pair(pair_set, truth, partial(_pair, folder, image, part, truth))
    return pair_set


def _pair(folder: Path, image: Path, part: str, truth: Path) -> ImagePair:
    sequence = image.parent.name
    name0, name1 = f"references/{sequence}/{part}.jpg", image.relative_to(folder).as_posix()
    return ImagePair(name0, name1, sequence, part, read_homography(truth))
