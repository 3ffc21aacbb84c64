"""D2-Net's training: a few steps on small photographs help, and inference takes the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from featplug.methods import build_extractor
from featplug.networks.d2net import CELL_SIZE, TRAINING_CELL_SIZE, D2Net, normalize_caffe
from featplug.training.history import read_history
from featplug.training.tasks.d2net import D2NetOptions, D2NetTask
from featplug.training.trainer import train
from tests.networks.test_d2net import seeded_state
from tests.scenes.pictures import write_photographs
from tests.training.tasks import short_run

LAST, BEFORE = (f"dense_feature_extraction.model.{index}.weight" for index in (21, 19))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs, one of which is held out."""
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder, [(240, 200)] * 3)
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of seeded weights."""
    path = tmp_path_factory.mktemp("start") / "vgg16.safetensors"
    save_file(seeded_state(D2Net()), path)
    return path


def options(photographs: Path, start: Path, folder: Path, **changes: object) -> D2NetOptions:
    own = {"start": start, "crop": 96, "min_correspondences": 16, "photometric_probability": 0.0}
    return D2NetOptions(**short_run(photographs, folder, **{**own, **changes}))


@pytest.mark.slow
@pytest.mark.parametrize(("cell_size", "crop"), [(TRAINING_CELL_SIZE, 96), (CELL_SIZE, 56)])
def test_a_few_steps_lower_the_loss_of_held_out_photographs(
    photographs: Path, start: Path, tmp_path: Path, cell_size: int, crop: int
) -> None:
    rectify = cell_size == CELL_SIZE
    changes = {"cell_size": cell_size, "crop": crop, "rectify": rectify, "steps": 8}
    task = D2NetTask(options(photographs, start, tmp_path, validation_pairs=2, **changes))
    with torch.no_grad():
        before = task.validate(start)
    summary = train(task)
    assert summary.metrics["loss"] < before["loss"] - 0.02
    assert summary.metrics["matches"] > 0

    # Only the last layer has moved, and the extractor of the conf takes the file.
    first, last = load_file(start), load_file(summary.weights)
    assert {key.rpartition(".")[0] for key in first if not torch.equal(first[key], last[key])} == {
        LAST.rpartition(".")[0]
    }
    extractor = build_extractor({"name": "d2net", "weights": str(summary.weights)})
    image = torch.from_numpy(np.random.default_rng(0).random((1, 3, 90, 120), np.float32))
    features = extractor({"image": image})
    assert features["descriptors"][0].shape[0] == 512
    assert torch.equal(
        extractor.network.state_dict()[LAST], task.network.state_dict()[LAST].contiguous()
    )


@pytest.mark.slow
def test_more_layers_and_true_viewpoints(
    photographs: Path, start: Path, workspace: Path, tmp_path: Path
) -> None:
    changes = {"layers": 2, "crop": 128, "steps": 3, "workspaces": (workspace,)}
    task = D2NetTask(options(photographs, start, tmp_path, **changes))
    summary = train(task)
    history = read_history(tmp_path / "history.csv")
    assert history["overlap"][:, 1].min() > 0.2
    with torch.no_grad():
        first_again = float(task.losses(task.network, task.data[0], torch.Generator())["loss"])
    assert first_again < history["loss"][0, 1] - 0.02
    first, last = load_file(start), load_file(summary.weights)
    changed = sorted(key for key in first if not torch.equal(first[key], last[key]))
    assert len(changed) == 4
    assert {BEFORE, LAST} < set(changed)


def test_shifted_biases(photographs: Path, start: Path, tmp_path: Path) -> None:
    task = D2NetTask(options(photographs, start, tmp_path, active=0.8, crop=48))
    images = torch.cat([task.data[step]["image0"] for step in range(6)])
    with torch.no_grad():
        after = task.network(normalize_caffe(images))
        task.network.load_state_dict(load_file(start))
        before = task.network(normalize_caffe(images))
    assert float((after > 0).float().mean()) == pytest.approx(0.8, abs=0.05)
    shift = after - before
    torch.testing.assert_close(shift, shift.mean().expand_as(shift), rtol=1e-3, atol=1e-2)


def test_schedules(photographs: Path, start: Path, tmp_path: Path) -> None:
    rates = {
        schedule: D2NetTask(options(photographs, start, tmp_path, schedule=schedule)).rate
        for schedule in ("halving", "constant", "linear")
    }
    assert [rates["halving"](step / 50) for step in (0, 9, 10, 49)] == [1, 1, 1 / 2, 1 / 16]
    assert rates["constant"](0.98) == 1
    assert rates["linear"](0.75) == 0.25


def test_bad_input_is_named(
    photographs: Path, start: Path, workspace: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.pth"):
        D2NetTask(options(photographs, tmp_path / "missing.pth", tmp_path))
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors"):
        D2NetTask(options(photographs, tmp_path / "other.safetensors", tmp_path))
    for changes, message in (
        ({"layers": 11}, "layers must be 1 to 10, not 11"),
        ({"cell_size": 2}, "cell_size.*8.*4.*2"),
        ({"active": 1.5}, r"active.*1\.5"),
        ({"megadepth": workspace}, "--megadepth and --scenes"),
    ):
        with pytest.raises(ValueError, match=message):
            D2NetTask(options(photographs, start, tmp_path, **changes))
