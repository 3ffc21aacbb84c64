"""Tuning: a few steps make matches more often right, by the last layers alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from featplug.methods import build_extractor
from featplug.networks.l2net import DOAP, Layer
from featplug.training.data.view_pairs import HomographyPairOptions
from featplug.training.tasks.tune import HEADS, TuneOptions, TuneTask
from featplug.training.trainer import train
from featplug.weights.checkpoints import read_safetensors, save_readable
from featplug.weights.registry import shipped_folder
from tests.training.tasks import short_run

VIEWS = HomographyPairOptions(batch_size=1, size=(160, 192), photometric_probability=0.5)


def options_for(feature: str, photographs: Path, folder: Path) -> TuneOptions:
    own = {
        "feature": feature,
        "start": shipped_folder() / f"{feature.replace('-', '_')}.safetensors",
        "views": VIEWS,
        "max_keypoints": 100,
        "learning_rate": 1e-3,
    }
    return TuneOptions(**short_run(photographs, folder, steps=3, **own))


@pytest.mark.slow
@pytest.mark.parametrize("feature", HEADS)
def test_a_few_steps_lower_the_loss_by_the_last_layers(
    feature: str, photographs: Path, tmp_path: Path
) -> None:
    options = options_for(feature, photographs, tmp_path)
    task = TuneTask(options)

    def mean_loss() -> float:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            values = [task.losses(task.network, task.data[k], generator) for k in range(3)]
        return float(torch.stack([value["loss"] for value in values]).mean())

    before = mean_loss()
    summary = train(task)
    assert mean_loss() < before - 0.01
    assert summary.metrics["matches"] > 0
    assert 0 < summary.metrics["mma_3"] <= 1

    state, _ = read_safetensors(summary.weights)
    start, _ = read_safetensors(options.start)
    changed = {key for key in state if not torch.equal(state[key], start[key].to(state[key]))}
    heads = HEADS[feature]
    assert changed
    assert {key for key in changed if not key.startswith(tuple(f"{h}." for h in heads))} == set()
    # Statistics are not trained, those of a tuned layer neither.
    assert not any("running" in key or "num_batches" in key for key in changed)

    model = {"name": "doap" if feature == "doap-binary" else feature, "checkpoint": feature}
    extractor = build_extractor({**model, "weights": str(summary.weights)})
    assert extractor.weights_records[0].origin == "file"


def test_a_view_without_keypoints_is_left_out(tmp_path: Path) -> None:
    for k in range(2):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.full((240, 260, 3), 128, np.uint8))
    plain = replace(VIEWS, photometric_probability=0.0)
    options = replace(options_for("doap", tmp_path, tmp_path), views=plain)
    task = TuneTask(options)
    loss = task.losses(task.network, task.data[0], torch.Generator().manual_seed(0))["loss"]
    loss.backward()
    assert loss == 0


def test_a_network_of_other_layers_is_rejected(photographs: Path, tmp_path: Path) -> None:
    start = tmp_path / "other.safetensors"
    layers = [Layer("avgpool", size=(16, 16), stride=(16, 16)), Layer("conv", (1, 128), (2, 2))]
    save_readable(DOAP(layers).state_dict(), start)
    options = replace(options_for("doap", photographs, tmp_path), start=start)
    with pytest.raises(ValueError, match=r"other\.safetensors.*trunk\.conv7.*trunk\.bn7"):
        TuneTask(options)


def test_a_feature_without_head_is_rejected(photographs: Path, tmp_path: Path) -> None:
    options = replace(options_for("doap", photographs, tmp_path), feature="sift")
    with pytest.raises(ValueError, match=r"sift.*doap, doap-binary"):
        TuneTask(options)
