"""Oxford's affine covariant sequences (Mikolajczyk and Schmid, PAMI 2005).

Each sequence has a folder with ``img1`` to ``img6`` and ``H1to2p`` to ``H1to6p``, which map pixels
of the first image to the others.
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
from featplug.io.images import read_image_size

MARKS = ("*/H1to*p",)
SOURCE = (
    "Oxford affine: robots.ox.ac.uk/~vgg/research/affine, eight archives, about 50 MB; no licence "
    "is stated."
)

_SIZES = {
    "bark": (765, 512),
    "bikes": (1000, 700),
    "boat": (850, 680),
    "graf": (800, 640),
    "leuven": (900, 600),
    "trees": (1000, 700),
    "ubc": (800, 640),
    "wall": (880, 680),
}
_OTHER_SIZES = {"wall/img1": (1000, 700)}
"""Width and height of the photographs as they were released."""


def read(folder: Path) -> PairSet:
    """Read all sequences of the folder."""
    pair_set = PairSet("oxford", folder, [], sequences=tuple(_SIZES))
    for sequence in sorted({file.parent for file in folder.glob("*/H1to*p")}):
        files = sorted(sequence.glob("H1to*p"))
        if sequence.name in _SIZES:
            files = [sequence / f"H1to{k}p" for k in range(2, 7)]
        images = images_of(sequence)
        for file in files:
            add_pair(pair_set, file, partial(_pair, file, images))
    return pair_set


def _pair(file: Path, images: dict[str, str]) -> ImagePair:
    sequence, number = file.parent, file.name.removeprefix("H1to").removesuffix("p")
    homography = read_homography(file)
    names = [images.get(f"img{k}", f"img{k}.ppm") for k in ("1", number)]
    for name in names:
        _check_size(sequence / name)
    name0, name1 = (f"{sequence.name}/{name}" for name in names)
    return ImagePair(name0, name1, sequence.name, homography=homography)


def _check_size(path: Path) -> None:
    sequence = path.parent.name
    known = _OTHER_SIZES.get(f"{sequence}/{path.stem}", _SIZES.get(sequence))
    size = read_image_size(path)
    if known is not None and known != size:
        raise ValueError(
            f"{path} has {size[0]}×{size[1]} pixels, but its homographies are for "
            f"{known[0]}×{known[1]}."
        )
