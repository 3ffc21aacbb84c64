"""DOAP's training: a few steps on patches of small photographs help, and inference takes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from featplug.io.image_folder import list_images
from featplug.methods import build_extractor
from featplug.training.data.patch_batches import PatchBatchOptions, count_patches
from featplug.training.data.patch_groups import PatchGroups
from featplug.training.data.patch_views import PatchGroupOptions
from featplug.training.data.photographs import split_photographs
from featplug.training.history import read_history
from featplug.training.tasks.doap import DOAPOptions, DOAPTask, PatchOptions
from featplug.training.trainer import train
from tests.scenes.pictures import write_photographs
from tests.training.tasks import short_run

SIZES = [(480, 420)] * 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of photographs and their patch groups."""
    folder = tmp_path_factory.mktemp("doap")
    names = write_photographs(folder / "photographs", SIZES)
    options = PatchGroupOptions(num_views=4, max_groups=60, max_patches=3)
    path = folder / "groups.h5"
    assert list(PatchGroups.make(folder / "photographs", path, names, options)) == names
    return folder / "photographs", path


@pytest.mark.slow
@pytest.mark.parametrize("binary", [False, True])
def test_a_few_steps_raise_average_precision(
    data: tuple[Path, Path], tmp_path: Path, binary: bool
) -> None:
    photographs, groups = data
    run = short_run(photographs, tmp_path, steps=8, validation_pairs=2)
    patches = PatchOptions(groups, mine=False, batch=PatchBatchOptions(96, photographs=2))
    summary = train(DOAPTask(DOAPOptions(**run, binary=binary, patches=patches)))
    losses = read_history(tmp_path / "history.csv")["loss"][:, 1]
    assert losses[-2:].mean() < losses[:2].mean() - 0.02
    assert 0 < summary.metrics["average_precision"] <= 1
    assert summary.metrics["matches"] > 0
    assert 0 < summary.metrics["mma_3"] <= 1

    name = "doap-binary" if binary else "doap"
    extractor = build_extractor(
        {"name": "doap", "checkpoint": name, "weights": str(summary.weights)}
    )
    image = torch.from_numpy(np.random.default_rng(0).random((1, 3, 90, 120), np.float32))
    features = extractor({"image": image})
    assert features["descriptors"][0].shape[0] == (256 if binary else 128)
    assert extractor.weights_records[0].origin == "file"


@pytest.mark.slow
def test_a_photograph_that_was_taken_out_is_not_trained_on(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    photographs, groups = data
    shutil.copytree(photographs, tmp_path / "fewer")
    first, *others = list_images(photographs)
    (tmp_path / "fewer" / first).unlink()
    names, _ = split_photographs(others)
    most = count_patches(PatchGroups(groups), names, max_per_group=4)
    run = short_run(tmp_path / "fewer", tmp_path / "run")
    patches = PatchOptions(groups, mine=False, batch=PatchBatchOptions(most))
    task = DOAPTask(DOAPOptions(**run, patches=patches))
    assert task.data.names == names
    # Of the one photograph that is held out there are fewer patches than a batch has.
    summary = train(task)
    assert 0 < summary.metrics["average_precision"] <= 1
