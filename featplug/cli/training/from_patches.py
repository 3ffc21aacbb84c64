"""Commands of the systems that are trained on patches: DOAP and ContextDesc."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from featplug.cli.training.common import Run
from featplug.training.data.match_sets import MatchSetOptions
from featplug.training.data.mining import mine_labels
from featplug.training.data.patch_groups import (
    JitterOptions,
    PatchBatchOptions,
    PatchGroups,
    make_patch_groups,
)
from featplug.training.tasks.contextdesc import ContextDescOptions, ContextDescTask
from featplug.training.tasks.doap import DOAPOptions, DOAPTask
from featplug.training.trainer import process_device


@dataclass(frozen=True)
class Patches:
    """How groups of patches are cut out of the photographs and put into batches."""

    groups: Path | None = None
    """File of patch groups, made where it is missing; in the outputs by default."""
    mine: bool = True
    """Ignore patches of a photograph that look alike at different points (DOAP, section 4.2)."""
    batch: PatchBatchOptions = field(default_factory=PatchBatchOptions)
    jitter: JitterOptions = field(default_factory=JitterOptions)


def doap(
    run: tyro.conf.OmitArgPrefixes[Run],
    patches: Patches = Patches(),
    start: Path | None = None,
    binary: bool = False,
    distance: Literal["euclidean", "squared"] = "euclidean",
    learning_rate: float = 0.1,
) -> None:
    """Train DOAP (He et al., CVPR 2018).

    Args:
        run: where, how long, and how precisely.
        patches: the groups of patches.
        start: weights to start from.
        binary: train 256 bits in place of 128 numbers.
        distance: as the paper or as the released layer, of real descriptors.
        learning_rate: at 1,024 patches; proportional to the size of the batch.
    """
    groups, mined = _patch_files(run, patches)
    options = DOAPOptions(
        groups=groups,
        photographs=run.images,
        mined=mined,
        start=start,
        binary=binary,
        distance=distance,
        learning_rate=learning_rate,
        batch=patches.batch,
        jitter=patches.jitter,
    )
    run.train(DOAPTask(options, run.seed, process_device(run.device)))


@dataclass(frozen=True)
class Sets:
    """Where keypoints of several views are found, and how match sets are made of them."""

    groups: Path | None = None
    """File of patch groups, made where it is missing; in the outputs by default."""
    match: MatchSetOptions = field(default_factory=MatchSetOptions)


def contextdesc(
    run: tyro.conf.OmitArgPrefixes[Run],
    sets: Sets = Sets(),
    start: Path | None = None,
    start_local: Path | None = None,
    learning_rate: float = 0.1,
    trunk_rate: float = 1.0,
    temperature: float = 1.0,
) -> None:
    """Train ContextDesc (Luo et al., CVPR 2019).

    Args:
        run: where, how long, and how precisely.
        sets: the match sets.
        start: weights of ContextDesc to start from.
        start_local: weights of DOAP for its local network to start from.
        learning_rate: at the start; it falls to 0.
        trunk_rate: its factor for the convolutions of the local network but the last one; 0 keeps
            them as they were at the start, which is sensible and fast with trained ones.
        temperature: of the softmax at the start; it is learned. About 10 with trained weights.
    """
    groups, _ = _patch_files(run, Patches(sets.groups, mine=False))
    options = ContextDescOptions(
        groups=groups,
        photographs=run.images,
        start=start,
        start_local=start_local,
        learning_rate=learning_rate,
        trunk_rate=trunk_rate,
        temperature=temperature,
        sets=sets.match,
    )
    run.train(ContextDescTask(options, run.seed, process_device(run.device)))


def _patch_files(run: Run, patches: Patches) -> tuple[Path, Path | None]:
    """Make the patch groups, and the labels mined from them, where they are missing."""
    run.outputs.mkdir(parents=True, exist_ok=True)
    path = patches.groups or run.outputs / "patch_groups.h5"
    made = make_patch_groups(run.images, path, run.names(), num_workers=run.num_workers)
    run.prepare("patches", made)
    if not patches.mine:
        return path, None
    mined = path.with_name(f"{path.stem}_labels.h5")
    run.prepare("mine", mine_labels(PatchGroups(path), mined, device=process_device(run.device)))
    return path, mined
