"""MTLDesc's training: a few steps lower both losses, inference takes the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from featplug.methods import build_extractor
from featplug.networks.mtldesc import UNUSED, Maps
from featplug.training.data.teacher import TeacherKeypoints, TeacherOptions
from featplug.training.data.view_pairs import MTLDescPairOptions
from featplug.training.history import read_history
from featplug.training.tasks.mtldesc import MTLDescOptions, MTLDescTask, sample_maps
from featplug.training.trainer import train
from tests.scenes.pictures import write_photographs
from tests.training.tasks import short_run

PAIRS = MTLDescPairOptions(batch_size=2, size=(48, 48), num_points=30, grid=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of photographs and the teacher's file of them."""
    folder = tmp_path_factory.mktemp("mtldesc")
    names = write_photographs(folder / "photographs", [(160, 130)] * 4)
    path = folder / "teacher.h5"
    options = TeacherOptions(num_homographies=3)
    assert list(TeacherKeypoints.make(folder / "photographs", path, names, options)) == names
    return folder / "photographs", path


@pytest.mark.slow
def test_a_few_steps_lower_both_losses(data: tuple[Path, Path], tmp_path: Path) -> None:
    photographs, teacher = data
    run = short_run(photographs, tmp_path, steps=6)
    task = MTLDescTask(MTLDescOptions(**run, teacher=teacher, pairs=PAIRS))
    before = {key: value.clone() for key, value in task.weights().items()}
    summary = train(task)
    history = read_history(tmp_path / "history.csv")
    for name in ("descriptor_loss", "detector_loss"):
        losses = history[name][:, 1]
        assert losses[-2:].mean() < losses[:2].mean() - 0.03, name
    for name in ("mma_3", "repeatability"):
        assert 0 <= summary.metrics[name] <= 1
    for key, value in task.weights().items():
        if "num_batches" not in key and "running" not in key:
            assert torch.equal(before[key], value) == key.startswith(UNUSED), key

    extractor = build_extractor({"name": "mtldesc", "weights": str(summary.weights)})
    image = torch.from_numpy(np.random.default_rng(0).random((1, 3, 64, 80), np.float32))
    assert extractor({"image": image})["descriptors"][0].shape[0] == 128
    assert extractor.weights_records[0].origin == "file"


def test_maps_are_sampled_as_by_the_extractor() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = Maps(
        torch.zeros(2, 1, 32, 48),
        torch.randn(2, 128, 8, 12, generator=generator),
        torch.rand(2, 1, 8, 12, generator=generator),
    )
    corners = torch.tensor([[0.0, 0.0], [47.0, 31.0]]).expand(2, -1, -1)
    descriptors, attention = sample_maps(maps, corners)
    for index, (row, column) in enumerate(((0, 0), (-1, -1))):
        expected = F.normalize(maps.descriptors[:, :, row, column], dim=1)
        torch.testing.assert_close(descriptors[:, index], expected)
        torch.testing.assert_close(attention[:, index], maps.attention[:, 0, row, column])
