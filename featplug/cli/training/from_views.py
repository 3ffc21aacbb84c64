"""Commands of the systems that are trained on views of photographs: MTLDesc, LISRD and D2-Net."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import tyro

from featplug.cli.training.common import Run
from featplug.training.data import photometric
from featplug.training.data.sift_pairs import make_sift_pairs
from featplug.training.data.teacher import make_teacher
from featplug.training.data.triplets import LISRDTripletOptions
from featplug.training.data.view_pairs import MTLDescPairOptions
from featplug.training.data.viewpoint import read_megadepth, read_workspace
from featplug.training.tasks.d2net import D2NetOptions, D2NetTask
from featplug.training.tasks.lisrd import LISRDOptions, LISRDTask
from featplug.training.tasks.lisrd_sift import LISRDSIFTOptions, LISRDSIFTTask
from featplug.training.tasks.mtldesc import MTLDescOptions, MTLDescTask
from featplug.training.trainer import process_device

_PAIRS, _TRIPLETS = MTLDescPairOptions(), LISRDTripletOptions()


def mtldesc(
    run: tyro.conf.OmitArgPrefixes[Run],
    pairs: tyro.conf.AvoidSubcommands[MTLDescPairOptions] = _PAIRS,
    look: Literal["released", "general"] = "released",
    teacher: Path | None = None,
    start: Path | None = None,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
) -> None:
    """Train MTLDesc (Wang et al., AAAI 2022).

    Args:
        run: where, how long, and how precisely.
        pairs: the views.
        look: what changes photometrically: light and noise, as released, or blur, exposure and
            JPEG as well.
        teacher: file of keypoints of the photographs that teach the detector; corners that
            homographies do not move, in the outputs, by default.
        start: weights to start from.
        learning_rate: of Adam.
        weight_decay: of Adam.
    """
    if teacher is None:
        run.outputs.mkdir(parents=True, exist_ok=True)
        teacher = run.outputs / "teacher_keypoints.h5"
        device = process_device(run.device)
        made = make_teacher(run.images, teacher, run.names(), device=device)
        run.prepare("teacher's keypoints, once, or give --teacher FILE", made)
    if look == "general":
        pairs = replace(pairs, photometric=photometric.GENERAL)
    options = MTLDescOptions(
        photographs=run.images,
        teacher=teacher,
        start=start,
        pairs=pairs,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
    )
    run.train(MTLDescTask(options, run.seed, process_device(run.device)))


def lisrd(
    run: tyro.conf.OmitArgPrefixes[Run],
    triplets: tyro.conf.AvoidSubcommands[LISRDTripletOptions] = _TRIPLETS,
    start: Path | None = None,
    learning_rate: float = 1e-3,
    constant_rate: bool = False,
    metas: bool = True,
    meta_weight: float = 1.0,
    accumulate: bool = False,
) -> None:
    """Train LISRD (Pautrat et al., ECCV 2020).

    Args:
        run: where, how long, and how precisely.
        triplets: the views.
        start: weights to start from.
        learning_rate: of Adam.
        constant_rate: keep it, as the released code does, in place of letting it fall to 0.
        metas: train the meta descriptors as well; the paper trains without them at first, and
            then, with --start, all.
        meta_weight: of the loss of the weighted distance.
        accumulate: train as the released loop does, which applies to a sample the choices of the
            samples before it as well.
    """
    options = LISRDOptions(
        photographs=run.images,
        start=start,
        triplets=triplets,
        learning_rate=learning_rate,
        constant_rate=constant_rate,
        metas=metas,
        meta_weight=meta_weight,
        accumulate=accumulate,
    )
    run.train(LISRDTask(options, run.seed, process_device(run.device)))


def lisrd_sift(
    run: tyro.conf.OmitArgPrefixes[Run],
    pairs: Path | None = None,
    start: Path | None = None,
    batch_size: int = 16,
    learning_rate: float = 1e-2,
    margin: float = 1.0,
) -> None:
    """Train LISRD-SIFT (Pautrat et al., ECCV 2020): the choice between SIFT and upright SIFT.

    Args:
        run: where, how long, and how precisely.
        pairs: file of the pairs' keypoints and descriptors, made where it is missing; in the
            outputs by default.
        start: weights to start from.
        batch_size: pairs per step.
        learning_rate: of Adam.
        margin: of the triplets.
    """
    run.outputs.mkdir(parents=True, exist_ok=True)
    path = pairs or run.outputs / "sift_pairs.h5"
    made = make_sift_pairs(run.images, path, run.names(), num_workers=run.num_workers)
    run.prepare("pairs", made)
    options = LISRDSIFTOptions(
        pairs=path,
        photographs=run.images,
        start=start,
        batch_size=batch_size,
        learning_rate=learning_rate,
        margin=margin,
    )
    run.train(LISRDSIFTTask(options, run.seed, process_device(run.device)))


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
        photographs=run.images,
        start=start,
        layers=layers,
        learning_rate=learning_rate,
        schedule=schedule,
        cell_size=cell_size,
        crop=crop,
        batch_size=batch_size,
        rectify=rectify,
        active=active,
        safe_radius=safe_radius,
    )
    run.train(D2NetTask(options, run.seed, process_device(run.device), found))
