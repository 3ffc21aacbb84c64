"""LISRD-SIFT's training: a few steps help, and inference takes the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from featplug.methods import build_extractor, feature_conf
from featplug.training.data.sift_pairs import SIFTPairOptions, SIFTPairs
from featplug.training.tasks.lisrd_sift import LISRDSIFTOptions, LISRDSIFTTask
from featplug.training.trainer import train
from tests.scenes.pictures import write_photographs
from tests.training.tasks import short_run


def loss_of(task: LISRDSIFTTask) -> float:
    """Loss on the batch of the first step."""
    with torch.no_grad():
        return float(task.losses(task.network, task.data[0], torch.Generator())["loss"])


@pytest.mark.slow
def test_a_few_steps_lower_the_loss(tmp_path: Path) -> None:
    photographs, path = tmp_path / "photographs", tmp_path / "pairs.h5"
    names = write_photographs(photographs, [(400, 330)] * 4)
    options = SIFTPairOptions(max_keypoints=150)
    list(SIFTPairs.make(photographs, path, names, options, num_workers=0))
    run = short_run(photographs, tmp_path, steps=16, validation_pairs=2)
    task = LISRDSIFTTask(LISRDSIFTOptions(**run, pairs=path, batch_size=6))
    first = {key: value.clone() for key, value in task.weights().items()}
    before = loss_of(task)
    summary = train(task)
    assert loss_of(task) < before - 0.002
    assert all(not torch.equal(first[key], value) for key, value in task.weights().items())
    for name in ("mma_3", "mma_3_sift", "mma_3_upright"):
        assert 0 < summary.metrics[name] <= 1

    model = {**feature_conf("lisrd-sift")["model"], "weights": str(summary.weights)}
    image = torch.from_numpy(np.random.default_rng(0).random((1, 3, 90, 120), np.float32))
    extractor = build_extractor(model)
    assert extractor({"image": image})["meta_descriptors"][0].shape == (2, 1024, 3, 3)
    assert extractor.weights_records[0].origin == "file"
