"""Conversion of PyTorch checkpoints: containers, prefixes, and those of other systems."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from featplug.networks.lightglue import LightGlue
from featplug.weights.checkpoints import state_sha256
from featplug.weights.converters import pytorch
from featplug.weights.converters.pytorch import d2net, lisrd, mtldesc
from featplug.weights.registry import get_entry
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


def drawn(weights_for: str) -> dict[str, Tensor]:
    """Drawn weights as authors' files have them."""
    torch.manual_seed(0)
    drawn = LightGlue(weights_for).state_dict()
    return {key: value for key, value in drawn.items() if key != "confidence_thresholds"}


def check_same(converted: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert state_sha256(converted) == state_sha256(expected)


def test_names_of_lightglues_first_version(tmp_path: Path) -> None:
    expected = drawn("disk")
    older: dict[str, Tensor] = {"log_assignment.0.r": torch.zeros(1)}
    for key, value in expected.items():
        parts = key.split(".")
        if parts[0] == "transformers":
            parts = [parts[2], parts[1], *parts[3:]]
        older[".".join(parts)] = value
    assert "self_attn.0.Wqkv.weight" in older
    path = save(older, tmp_path / "disk_lightglue.pth")
    check_same(pytorch.lightglue(path), expected)
    assert get_entry("lightglue-disk").compare(pytorch.lightglue(path)) == (0, "")


def test_lighterglue_comes_with_xfeat(tmp_path: Path) -> None:
    expected = drawn("xfeat")
    whole = {f"matcher.{key}": value for key, value in expected.items()}
    whole["extractor.model.net.skip1.1.bias"] = torch.zeros(24)
    path = save(whole, tmp_path / "xfeat-lighterglue.pt")
    check_same(pytorch.lightglue(path), expected)
    assert get_entry("lighterglue").compare(pytorch.lightglue(path)) == (0, "")
    count, mismatch = get_entry("lightglue-disk").compare(pytorch.lightglue(path))
    assert count
    assert "missing" in mismatch


@pytest.mark.parametrize(
    ("convert", "key"), [(pytorch.disk, "extractor"), (pytorch.patch_network, "state_dict")]
)
def test_state_dicts_under_a_key(tmp_path: Path, convert: type, key: str) -> None:
    path = save({key: state(), "epoch": 3}, tmp_path / "file.pth")
    check_same(convert(path), state())
    with pytest.raises(ValueError, match=rf"file\.pth has no state dict under '{key}'.*epoch"):
        convert(save({"epoch": 3}, path))


def test_files_of_old_pytorch_lack_counters(tmp_path: Path) -> None:
    """BatchNorm counts its batches since PyTorch 0.4; HardNet's authors saved before."""
    entry = get_entry("hardnet")
    network = entry.build_network({})
    older = {k: v for k, v in network.state_dict().items() if not k.endswith("batches_tracked")}
    assert len(older) < len(network.state_dict())
    path = save({"state_dict": older}, tmp_path / "checkpoint.pth")
    assert entry.compare(entry.convert(path)) == (0, "")


def test_an_unknown_feature_of_lightglue_is_named() -> None:
    with pytest.raises(ValueError, match=r"aliked.*not sifft"):
        LightGlue("sifft")
