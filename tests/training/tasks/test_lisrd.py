"""LISRD's training: a few steps lower the loss, a stopped run resumes, inference takes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from featplug.methods import build_extractor, feature_conf
from featplug.networks.lisrd import HEADS
from featplug.training.data.triplets import LISRDTripletOptions
from featplug.training.history import read_history
from featplug.training.tasks.lisrd import LISRDOptions, LISRDTask
from featplug.training.trainer import TrainSummary, train
from tests.scenes.pictures import write_photographs
from tests.training.tasks import short_run

TRIPLETS = LISRDTripletOptions(batch_size=2, size=(48, 64), num_keypoints=36)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder, [(200, 160)] * 4)
    return folder


def task(photographs: Path, folder: Path, **changes: Any) -> LISRDTask:
    run = short_run(photographs, folder, steps=5, **changes)
    return LISRDTask(LISRDOptions(**run, triplets=TRIPLETS))


def losses_of(trained: LISRDTask) -> np.ndarray:
    """Local and meta loss on the batches of the first steps."""
    trained.network.train()
    found = []
    with torch.no_grad():
        for step in range(3):
            losses = trained.losses(trained.network, trained.data[step], torch.Generator())
            found.append([float(losses[name]) for name in ("local_loss", "meta_loss")])
    return np.mean(found, axis=0)


@dataclass(frozen=True)
class Whole:
    """A run from the first to the last step."""

    before: np.ndarray
    after: np.ndarray
    summary: TrainSummary


@pytest.fixture(scope="module")
def whole(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    # Batch statistics are updated by a look at the losses, so that is not the task to train.
    folder = tmp_path_factory.mktemp("whole")
    before = losses_of(task(photographs, folder))
    trained = task(photographs, folder)
    summary = train(trained)
    return Whole(before, losses_of(trained), summary)


@pytest.mark.slow
def test_a_few_steps_lower_the_loss(whole: Whole) -> None:
    assert (whole.after < whole.before - 0.05).all()
    assert {f"mma_3_{head}" for head in HEADS} < set(whole.summary.metrics)
    assert whole.summary.metrics["matches"] > 0
    assert 0 < whole.summary.metrics["mma_3"] <= 1

    model = {**feature_conf("lisrd")["model"], "weights": str(whole.summary.weights)}
    extractor = build_extractor(model)
    image = torch.from_numpy(np.random.default_rng(0).random((1, 3, 90, 120), np.float32))
    assert extractor({"image": image})["descriptors"][0].shape[0] == 512
    assert extractor.weights_records[0].origin == "file"


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_same_weights(
    whole: Whole, photographs: Path, tmp_path: Path
) -> None:
    assert train(task(photographs, tmp_path, max_minutes=0)).step == 1
    resumed = train(task(photographs, tmp_path))
    assert resumed.finished
    weights = load_file(resumed.weights)
    for key, value in load_file(whole.summary.weights).items():
        assert torch.equal(weights[key], value), key


def test_descriptors_alone(whole: Whole, photographs: Path, tmp_path: Path) -> None:
    weights = load_file(whole.summary.weights)
    changes = {"start": whole.summary.weights, "metas": False, "max_minutes": 0}
    alone = task(photographs, tmp_path, **changes)
    for key, value in alone.weights().items():
        assert torch.equal(weights[key], value), key
    train(alone)
    assert read_history(tmp_path / "history.csv")["meta_loss"][0, 1] == 0
    for key, value in alone.weights().items():
        assert torch.equal(weights[key], value) == ("vlad" in key), key


def test_the_released_loop_is_another_loss(photographs: Path, tmp_path: Path) -> None:
    with torch.no_grad():
        losses = [
            trained.losses(trained.network, trained.data[1], torch.Generator())["local_loss"]
            for trained in (
                task(photographs, tmp_path, accumulate=value) for value in (False, True)
            )
        ]
    assert losses[0] != losses[1]
