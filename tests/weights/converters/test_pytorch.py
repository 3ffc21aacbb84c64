"""Conversion of PyTorch checkpoints: containers, prefixes, and those of other systems."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from featplug.weights.checkpoints import state_sha256
from featplug.weights.converters.pytorch import d2net, lisrd, mtldesc
from tests.weights.test_checkpoints import ZIP_AND_LEGACY, save, state


def test_another_systems_checkpoint_is_told_by_what_it_holds(tmp_path: Path) -> None:
    path = save({"iter": 1, "model_state_dict": state()}, tmp_path / "lisrd.pth")
    with pytest.raises(ValueError, match=r"lisrd\.pth.*'model'.*iter, model_state_"):
        d2net(path)
    path = save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"it holds list"):
        d2net(path)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_mtldesc_is_a_state_dict_maybe_of_several_devices(tmp_path: Path, prefix: str) -> None:
    given = {prefix + key: value for key, value in state().items()}
    converted = mtldesc(save(given, tmp_path / "model_29.pt"))
    assert state_sha256(converted) == state_sha256(state())


def test_mtldesc_tells_another_systems_checkpoint(tmp_path: Path) -> None:
    path = save({"model": state(), "epoch_idx": 3}, tmp_path / "d2_tf.pth")
    with pytest.raises(ValueError, match=r"d2_tf\.pth.*model, epo"):
        mtldesc(path)


@ZIP_AND_LEGACY
def test_lisrd_checkpoint_is_read_with_and_without_the_prefix_of_parallel_training(
    tmp_path: Path, is_zip: bool
) -> None:
    expected = {"_backbone._conv1_1.bias": torch.ones(4), "vlad_a.centroids": torch.zeros(8, 2)}
    for keys in (
        ("_backbone._conv1_1.bias", "vlad_a.centroids"),
        ("module._backbone._conv1_1.bias", "module.vlad_a.centroids"),
        ("_backbone._conv1_1.bias", "module.vlad_a.centroids"),
    ):
        contents = {
            "iter": 100,
            "model_state_dict": dict(zip(keys, expected.values(), strict=True)),
            "optimizer_state_dict": torch.optim.Adam(nn.Linear(2, 2).parameters()).state_dict(),
        }
        converted = lisrd(save(contents, tmp_path / "lisrd.pth", is_zip))
        assert state_sha256(converted) == state_sha256(expected)


def test_lisrd_checkpoint_without_meta_descriptors_is_told(tmp_path: Path) -> None:
    path = save({"model_state_dict": state()}, tmp_path / "local.pth")
    with pytest.raises(ValueError, match=r"local\.pth.*vlad"):
        lisrd(path)
    path = save({"model": state()}, tmp_path / "d2.pth")
    with pytest.raises(ValueError, match=r"d2\.pth.*'model_state_dict'"):
        lisrd(path)
