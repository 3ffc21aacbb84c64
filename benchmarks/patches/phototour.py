"""FPR95 on UBC PhotoTour (Brown, Hua and Winder, PAMI 2011).

A folder has bitmaps ``patches0000.bmp`` …, each 16×16 patches of 64×64 pixels, row by row;
``info.txt`` with a line for each patch that begins with its 3D point; and lists of pairs such as
``m50_100000_100000_0.txt``: patch, 3D point and an unused number, twice. Patches of the same point
match.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.patches.dataset import Parts, PatchSet
from featplug.io.images import read_image
from featplug.io.metric_table import with_units
from featplug.io.text_tables import read_integers
from featplug.metrics.patch_tasks import false_positive_rate, pair_distances

PAIRS = "m50_100000_100000_0.txt"
"""Name of the list that papers report: 50,000 pairs that match and 50,000 that do not."""
NUM_PATCHES = {"liberty": 450_092, "notredame": 468_159, "yosemite": 633_587}
"""Number of patches of the three published sets."""

_SIDE = 64
_PER_ROW = 16
_PER_SHEET = _PER_ROW**2


class PhotoTour(PatchSet):
    """One of the sets, such as liberty.

    Raises:
        FileNotFoundError: ``info.txt``, a list of pairs or a sheet is missing.
        ValueError: a list is damaged, or names patches that do not exist.
    """

    name = "phototour"
    protocol = "phototour-fpr95"
    source = (
        "UBC PhotoTour: phototour.cs.washington.edu/patches, unpacked into folders liberty, "
        "notredame and yosemite."
    )

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"phototour-{folder.resolve().name.lower()}"
        self.problems = []
        num_patches = len(read_integers(folder / "info.txt", "list of patches"))
        self.pairs_file = _choose_pairs(folder)
        pairs = read_integers(self.pairs_file, "list of pairs")
        if pairs.shape[1] < 5:
            raise ValueError(
                f"{self.pairs_file}: expected lines of patch, 3D point and another number, twice, "
                f"got {pairs.shape[1]} numbers a line; get the list again."
            )
        self.index, positions = np.unique(pairs[:, [0, 3]], return_inverse=True)
        self.rows = positions.reshape(-1, 2)
        self.matching = pairs[:, 1] == pairs[:, 4]
        unknown = self.index[(self.index < 0) | (self.index >= num_patches)]
        if len(unknown) > 0:
            raise ValueError(
                f"{self.pairs_file} names patch {unknown[0]}, but {folder / 'info.txt'} lists "
                f"{num_patches}."
            )
        missing = [name for name in self.files() if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{folder / missing[0]} is missing; its patches are needed.")
        self.not_comparable = self._why_not(num_patches)

    def _why_not(self, num_patches: int) -> str | None:
        expected = NUM_PATCHES.get(self.folder.resolve().name.lower())
        if num_patches != expected:
            known = f"{expected:,} patches" if expected else "one of the published sets"
            return f"{self.name} has {num_patches:,} patches and is not {known}."
        if self.pairs_file.name != PAIRS:
            return f"The pairs are from {self.pairs_file.name}, not from {PAIRS}."
        return None

    def files(self) -> list[str]:
        """Return the lists and the sheets; see :class:`PatchSet`."""
        sheets = (_sheet(number) for number in np.unique(self.index // _PER_SHEET))
        return ["info.txt", self.pairs_file.name, *sheets]

    def num_patches(self) -> int:
        """Count the patches of the pairs."""
        return len(self.index)

    def patches(self) -> Iterator[np.ndarray]:
        """Yield the patches of the pairs, a sheet at a time; see :class:`PatchSet`."""
        for number in np.unique(self.index // _PER_SHEET):
            file = self.folder / _sheet(number)
            sheet = read_image(file, grayscale=True)
            if sheet.shape != (_PER_ROW * _SIDE,) * 2:
                size = f"{sheet.shape[1]}×{sheet.shape[0]}"
                raise ValueError(f"{file} has {size} pixels, not 1024×1024; download it again.")
            cut = sheet.reshape(_PER_ROW, _SIDE, _PER_ROW, _SIDE).swapaxes(1, 2)
            places = self.index[self.index // _PER_SHEET == number] % _PER_SHEET
            yield cut.reshape(_PER_SHEET, _SIDE, _SIDE)[places]

    def measure(self, descriptors: np.ndarray) -> Parts:
        """Compute FPR95; see :class:`PatchSet`."""
        distances = pair_distances(descriptors, *self.rows.T)
        rate = false_positive_rate(distances, self.matching)
        return {"all": with_units({"fpr95": rate})}


def _sheet(number: int) -> str:
    return f"patches{number:04d}.bmp"


def _choose_pairs(folder: Path) -> Path:
    """Return the list that papers report, or the longest one where that is missing."""
    if (folder / PAIRS).is_file():
        return folder / PAIRS
    lists = sorted(folder.glob("m50_*_*_0.txt"), key=lambda file: file.stat().st_size)
    if not lists:
        raise FileNotFoundError(f"{folder / PAIRS}, the list of pairs, is missing.")
    return lists[-1]
