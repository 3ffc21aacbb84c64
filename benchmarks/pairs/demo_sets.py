"""The demo world as a data set of pairs: ``demo``, or ``demo-SEED``."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from benchmarks.pairs.datasets import read_pairs, recognise
from benchmarks.pairs.pair_set import PairSet
from pipelines.datasets.demo import (
    DEMO_FOLDER,
    DemoOptions,
    demo_seed,
    make_demo_pairs,
    make_demo_world,
)

_NAMES = {"pairs": "demo-pairs", "hpatches": "demo-planes"}
"""Layout of the demo world to the name of its data sets."""


class PairData(NamedTuple):
    """A data set that has not been read yet."""

    folder: Path
    """Folder, or a list of pairs."""
    layout: str
    name: str | None = None
    """Name of the demo world's pairs."""

    def read(self) -> PairSet:
        """Read the pairs.

        Raises:
            ValueError: no pair can be used.
        """
        pair_set = read_pairs(self.folder, self.layout)
        return pair_set if self.name is None else replace(pair_set, name=self.name)


def find_pairs(
    dataset: Path, layout: str | None, layouts: Collection[str], progress: bool = False
) -> PairData:
    """Find a data set, and render it first where it is the demo world's.

    Args:
        dataset: folder or list; ``demo`` and ``demo-SEED`` render pairs of the town with true
            poses where these can be measured, planes with homographies otherwise.
        layout: layout of the folder; recognised by its files if None.
        layouts: layouts that can be measured.
        progress: show the progress of rendering.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: its layout is not known.
    """
    seed = demo_seed(dataset)
    if seed is None:
        return PairData(dataset, layout or recognise(dataset))
    if "pairs_file" in layouts:
        folder = make_demo_pairs(seed, progress=progress)
    else:
        town = DEMO_FOLDER / f"town-{seed}"
        folder = make_demo_world(town, DemoOptions(seed=seed), "hpatches", progress)
    return PairData(folder, recognise(folder), f"{_NAMES[folder.name]}-{seed}")
