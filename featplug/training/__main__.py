"""``python -m featplug.training SYSTEM --images DIR``: train on a folder of photographs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from featplug.base import choose_device
from featplug.cli import run_command
from featplug.images import list_images
from featplug.progress import progress_bar
from featplug.training.export import export_weights
from featplug.training.match_sets import MatchSetOptions
from featplug.training.mining import mine_labels
from featplug.training.patch_groups import (
    JitterOptions,
    PatchBatchOptions,
    PatchGroups,
    make_patch_groups,
)
from featplug.training.task import Task
from featplug.training.tasks.contextdesc import ContextDescOptions, ContextDescTask
from featplug.training.tasks.d2net import D2NetOptions, D2NetTask
from featplug.training.tasks.doap import DOAPOptions, DOAPTask
from featplug.training.trainer import TrainOptions, train
from featplug.training.viewpoint import read_megadepth, read_workspace

app = tyro.extras.SubcommandApp()


@dataclass(frozen=True)
class Run:
    """What every training has; a run is stopped and started again at will."""

    images: Path
    """Folder of photographs; a twentieth of them is held out for validation."""
    outputs: Path
    """Folder of the run: weights, checkpoint, curves and history."""
    steps: int = 10_000
    """Steps of the whole run; the learning rate falls to 0 over them."""
    seed: int = 0
    """Of everything random."""
    device: str | None = None
    """Such as cpu or cuda:1; the best one by default."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Of the network's products."""
    num_workers: int = 2
    """Processes that prepare data."""
    validate_every: int = 500
    """Steps between validations."""
    max_minutes: float | None = None
    """Stop after that many; the same command goes on."""

    def train(self, task: Task) -> None:
        """Train and say how it ended."""
        options = TrainOptions(
            outputs=self.outputs,
            steps=self.steps,
            seed=self.seed,
            device=self.device,
            precision=self.precision,
            num_workers=self.num_workers,
            validate_every=self.validate_every,
            max_minutes=self.max_minutes,
        )
        summary = train(task, options, progress=True)
        state = "finished" if summary.finished else "stopped, run it again to go on,"
        figures = ", ".join(f"{key} {value:.3f}" for key, value in summary.metrics.items())
        print(f"{state} after {summary.step} steps: {figures or 'not validated yet'}")
        print(f"weights, curves and history are in {self.outputs}")


@dataclass(frozen=True)
class Patches:
    """How groups of patches are cut out of the photographs and put into batches."""

    groups: Path | None = None
    """File of patch groups, made where it is missing; in the outputs by default."""
    mine: bool = True
    """Ignore patches of a photograph that look alike at different points (DOAP, section 4.2)."""
    batch: PatchBatchOptions = field(default_factory=PatchBatchOptions)
    jitter: JitterOptions = field(default_factory=JitterOptions)


def _patch_files(run: Run, patches: Patches) -> tuple[Path, Path | None]:
    """Make the patch groups, and the labels mined from them, where they are missing."""
    run.outputs.mkdir(parents=True, exist_ok=True)
    path = patches.groups or run.outputs / "patch_groups.h5"
    names = list_images(run.images)
    making = make_patch_groups(run.images, path, names, num_workers=run.num_workers)
    for _ in progress_bar(making, "patches", len(names), "photograph", True):
        pass
    if not patches.mine:
        return path, None
    mined = path.with_name(f"{path.stem}_labels.h5")
    mining = mine_labels(PatchGroups(path), mined, device=choose_device(run.device))
    for _ in progress_bar(mining, "mine", len(names), "photograph", True):
        pass
    return path, mined


@app.command
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
        groups,
        run.images,
        mined,
        start,
        binary,
        distance,
        learning_rate,
        batch=patches.batch,
        jitter=patches.jitter,
    )
    run.train(DOAPTask(options, run.seed, choose_device(run.device)))


@app.command
def export(run: Path, output: Path, licence: str = "Apache-2.0", half: bool = True) -> None:
    """Write the best weights of a run as a file to give away.

    Args:
        run: folder of the run.
        output: the safetensors file.
        licence: of the weights, which is kept in the file.
        half: round them to float16.
    """
    export_weights(run, output, licence, half)
    print(f"{output}: {output.stat().st_size / 2**20:.1f} MiB")
@dataclass(frozen=True)
class Sets:
    """Where keypoints of several views are found, and how match sets are made of them."""

    groups: Path | None = None
    """File of patch groups, made where it is missing; in the outputs by default."""
    match: MatchSetOptions = field(default_factory=MatchSetOptions)


@app.command
def contextdesc(
    run: tyro.conf.OmitArgPrefixes[Run],
    sets: Sets = Sets(),
    start: Path | None = None,
    start_local: Path | None = None,
    learning_rate: float = 0.1,
    trunk_rate: float = 1.0,
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
    """
    groups, _ = _patch_files(run, Patches(sets.groups, mine=False))
    options = ContextDescOptions(
        groups, run.images, start, start_local, learning_rate, trunk_rate, sets=sets.match
    )
    run.train(ContextDescTask(options, run.seed, choose_device(run.device)))
def d2net(
    run: tyro.conf.OmitArgPrefixes[Run],
    start: Path | None = None,
    workspaces: tuple[Path, ...] = (),
    megadepth: Path | None = None,
    scenes: tuple[str, ...] = (),
    layers: int = 1,
    learning_rate: float = 1e-3,
    schedule: Literal["halving", "constant", "linear"] = "halving",
    cell_size: Literal[8, 4] = 8,
    crop: int = 256,
    batch_size: int = 1,
    rectify: bool = False,
    active: float | None = None,
    safe_radius: int = 4,
) -> None:
    """Train D2-Net (Dusmanu et al., CVPR 2019) from VGG16, on homographies or true viewpoints.

    Args:
        run: where, how long, and how precisely.
        start: weights to start from; those of d2net-ots by default.
        workspaces: COLMAP's dense workspaces to take pairs from, in place of homographies.
        megadepth: folder of MegaDepth to take pairs from, in place of homographies.
        scenes: those of MegaDepth, such as 0015 0022.
        layers: how many of the last convolutions to train.
        learning_rate: at the start.
        schedule: halved four times as in the paper, constant as released, or linear to 0.
        cell_size: pixels of a cell: 8 as in the paper, or 4 to train the network as it is used.
        crop: side of the images of a pair in pixels.
        batch_size: pairs of a step.
        rectify: rectify descriptors as they are when used; the released code trains them as they
            are.
        active: part of the last layer's values that a shift makes positive at the start, such as
            0.8, for short trainings: more of VGG16's descriptors then survives the rectification.
        safe_radius: cells around the true one in which no negative is searched.
    """
    if (megadepth is None) != (not scenes):
        raise ValueError("Give --megadepth and --scenes together, or neither of them.")
    found = [read_workspace(folder) for folder in workspaces]
    found += [read_megadepth(megadepth, scene) for scene in scenes if megadepth is not None]
    options = D2NetOptions(
        run.images,
        start,
        layers,
        learning_rate,
        schedule,
        cell_size,
        crop,
        batch_size,
        rectify,
        active,
        safe_radius=safe_radius,
    )
    run.train(D2NetTask(options, run.seed, choose_device(run.device), found))


if __name__ == "__main__":
    run_command(app, prog="python -m featplug.training")
