"""WxBS, pairs under wide baselines of several kinds at once (Mishkin et al., BMVC 2015; v1.1).

``KIND/PAIR/01.png`` and ``02.png`` (or ``.jpg``) with ``corrs.txt``, correspondences x0 y0 x1 y1 a
line; or with ``F.txt``, a 3×3 fundamental matrix with x1ᵀ F x0 = 0; or both. Pairs without a folder
of their kind are read as well.
"""

from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.pairs.pair_set import (
    ImagePair,
    PairSet,
    add_pair,
    images_of,
    read_fundamental_matrix,
)
from featplug.io.text_tables import read_matrix

MARKS = ("*/corrs.txt", "*/*/corrs.txt", "*/F.txt", "*/*/F.txt")
SOURCE = (
    "WxBS: cmp.felk.cvut.cz/wbs/datasets/WxBS_v1.1.zip, about 40 MB, which the package "
    "wxbs-benchmark downloads, too; no licence of the images is stated."
)

NUM_PAIRS = 32
"""Number of pairs in the released set without those for validation."""
_VALIDATION = ("kyiv_dolltheater2", "petrzin")
"""Pairs that the benchmark keeps for choosing options, and not for tests."""


def read(folder: Path) -> PairSet:
    """Read all pairs of the folder, but those for validation."""
    pair_set = PairSet("wxbs", folder, [])
    truths = [f for name in ("corrs.txt", "F.txt") for f in folder.glob(f"**/{name}")]
    for pair_folder in sorted({file.parent for file in truths}):
        depth = len(pair_folder.relative_to(folder).parts)
        if depth in (1, 2) and pair_folder.name not in _VALIDATION:
            truth = min(f for f in truths if f.parent == pair_folder)
            add_pair(pair_set, truth, partial(_pair, folder, pair_folder))
    return pair_set


def _pair(folder: Path, pair_folder: Path) -> ImagePair:
    corrs, fundamental = pair_folder / "corrs.txt", pair_folder / "F.txt"
    images = images_of(pair_folder)
    inside = pair_folder.relative_to(folder)
    name0, name1 = ((inside / images.get(k, f"{k}.png")).as_posix() for k in ("01", "02"))
    return ImagePair(
        name0,
        name1,
        sequence=inside.as_posix(),
        part=inside.parts[0] if len(inside.parts) == 2 else None,
        fundamental=read_fundamental_matrix(fundamental) if fundamental.exists() else None,
        correspondences=_correspondences(corrs) if corrs.exists() else None,
    )


def _correspondences(path: Path) -> np.ndarray:
    return read_matrix(path, 4, what="list of correspondences")
