"""HPatches' image sequences (Balntas et al., CVPR 2017).

Each sequence has a folder, ``i_…`` of other light or ``v_…`` of other viewpoints, with ``1.ppm`` to
``6.ppm`` and ``H_1_2`` to ``H_1_6``, which map pixels of the first image to the others. Images of
other formats (``1.png``) are read as well.
"""

from functools import partial
from pathlib import Path

from benchmarks.pairs.pair_set import (
    ImagePair,
    PairSet,
    add_pair,
    images_of,
    read_homography,
)

MARKS = ("*/H_1_*",)
SOURCE = (
    "HPatches: huggingface.co/datasets/vbalnt/hpatches, hpatches-sequences-release.zip, 1.3 GB, "
    "MIT licence."
)

_ILLUMINATION = """
    ajuntament autannes bologna books boutique bridger brooklyn castle chestnuts contruction
    crownday crownnight dc dome duda fenis fog fruits gonnenberg greenhouse greentea indiana kions
    ktirio kurhaus leuven lionday lionnight londonbridge melon miniature nescafe nijmegen nuts
    objects parking partyfood pencils pinard pool porta resort salon santuario school ski smurf
    steps table tools toy troulos veggies village whitebuilding yellowtent zion
"""
_VIEWPOINT = """
    abstract adam apprentices artisans astronautis azzola bark bees beyus bip bird birdwoman
    blueprint boat bricks busstop calder cartooncity charing churchill circus coffeehouse colors
    courses dirtywall dogman eastsouth feast fest gardens grace graffiti home laptop london machines
    man maskedman pomegranate posters samples soldiers strand sunseason tabletop talent tempera
    there underground vitro wall wapping war weapons woman wormhole wounded yard yuri
"""
SEQUENCES = tuple(
    [f"i_{name}" for name in _ILLUMINATION.split()] + [f"v_{name}" for name in _VIEWPOINT.split()]
)
"""Names of all 116, spelt as they were released."""
LARGE_SEQUENCES = (
    "i_contruction",
    "i_crownnight",
    "i_dc",
    "i_pencils",
    "i_whitebuilding",
    "v_artisans",
    "v_astronautis",
    "v_talent",
)
"""Sequences over 1600×1200 pixels, which D2-Net and its successors leave out."""
_PARTS = {"i": "illumination", "v": "viewpoint"}


def read(folder: Path) -> PairSet:
    """Read all sequences of the folder."""
    pair_set = PairSet("hpatches", folder, [], sequences=SEQUENCES)
    for sequence in sorted({file.parent for file in folder.glob("[iv]_*/H_1_*")}):
        images = images_of(sequence)
        for k in range(2, 7):  # a missing one of the five is a problem
            file = sequence / f"H_1_{k}"
            add_pair(pair_set, file, partial(_pair, file, images))
    return pair_set


def _pair(file: Path, images: dict[str, str]) -> ImagePair:
    sequence, number = file.parent.name, file.name.removeprefix("H_1_")
    name0, name1 = (f"{sequence}/{images.get(k, f'{k}.ppm')}" for k in ("1", number))
    return ImagePair(name0, name1, sequence, _PARTS[sequence[0]], read_homography(file))
