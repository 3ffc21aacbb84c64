"""EVD, the Extreme View Dataset: planes from very different sides (Mishkin et al., CVIU 2015).

``1/NAME.png`` and ``2/NAME.png``, and ``h/NAME.txt``, the homography that maps pixels of the first
image to the second. Images of other formats are read as well.
"""

from functools import partial
from pathlib import Path

from benchmarks.pairs.pair_set import ImagePair, PairSet, add_pair, images_of, read_homography

MARKS = ("h/*.txt",)
SOURCE = "EVD: cmp.felk.cvut.cz/wbs/datasets/EVD.zip, 29 MB, research use."

NUM_PAIRS = 15
"""Number of pairs in the released set."""


def read(folder: Path) -> PairSet:
    """Read all pairs of the folder."""
    pair_set = PairSet("evd", folder, [])
    of_images = [images_of(folder / k) if (folder / k).is_dir() else {} for k in ("1", "2")]
    for truth in sorted(folder.glob("h/*.txt")):
        names = [
            f"{k}/{images.get(truth.stem, f'{truth.stem}.png')}"
            for k, images in zip(("1", "2"), of_images, strict=True)
        ]
        add_pair(pair_set, truth, partial(_pair, names, truth))
    return pair_set


def _pair(names: list[str], truth: Path) -> ImagePair:
    homography = read_homography(truth)
    return ImagePair(names[0], names[1], sequence=truth.stem, homography=homography)
