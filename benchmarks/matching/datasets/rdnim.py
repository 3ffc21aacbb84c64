"""RDNIM, day and night images under rotations (Pautrat et al., ECCV 2020; images of DNIM).

``references/SEQUENCE/day.jpg`` and ``night.jpg``; ``images/SEQUENCE/*.jpg`` each with a ``.txt`` of
the same name, the homography that maps pixels of either reference to it. Every image is paired with
both references. (``time_stamps/`` is not needed.)
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.matching.image_pairs import ImagePair, PairSet, add_pairs, read_homography

NUM_PAIRS = 1722
"""Of each reference, as released."""
_REFERENCES = ("day", "night")


def read(folder: Path) -> PairSet:
    """Read all sequences that are there."""
    found = PairSet("rdnim", folder, [])
    for image in sorted(folder.glob("images/*/*.jpg")):
        truth = image.with_suffix(".txt")
        for part in _REFERENCES:
            add_pairs(found, [(truth, _pair(folder, image, part, truth))])
    return found


def _pair(folder: Path, image: Path, part: str, truth: Path) -> ImagePair | Exception:
    sequence = image.parent.name
    try:
        homography = read_homography(truth)
    except (ValueError, FileNotFoundError) as error:
        return error
    return ImagePair(
        f"references/{sequence}/{part}.jpg",
        image.relative_to(folder).as_posix(),
        sequence,
        part,
        homography,
    )
