from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from featplug.weights.checkpoints import (
    find_mismatch,
    read_safetensors,
    read_torch,
    state_sha256,
)

ZIP_AND_LEGACY = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])


class CallsSystem:
    """Unpickled without care, it leaves a file behind."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.witness}",)


def save(contents: object, path: Path, is_zip: bool = True) -> Path:
    torch.save(contents, path, _use_new_zipfile_serialization=is_zip)
    return path


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"conv.weight": torch.randn(40, 30, 3, 3), "conv.bias": torch.randn(40)}


@ZIP_AND_LEGACY
def test_what_training_scripts_leave_in_a_checkpoint_is_read(tmp_path: Path, is_zip: bool) -> None:
    values = [np.float64(0.5), np.float32(0.25), np.int64(-3), np.bool_(True)]
    contents = {
        "args": argparse.Namespace(lr=1e-3, model_file="d2_ots.pth", plot=False),
        "epoch_idx": 3,
        "model": state(),
        "optimizer": torch.optim.Adam(nn.Linear(2, 2).parameters()).state_dict(),
        "train_loss_history": values,
    }
    read = read_torch(save(contents, tmp_path / "d2.03.pth", is_zip))
    assert read["args"] == contents["args"]
    assert read["train_loss_history"] == values
    assert state_sha256(read["model"]) == state_sha256(state())


def test_old_numpy_names_are_read(tmp_path: Path) -> None:
    path = save({"model": {}, "loss": np.float64(0.5)}, tmp_path / "old.pth", is_zip=False)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multi", b"numpy.core.multi"))
    assert read_torch(path)["loss"] == 0.5


@ZIP_AND_LEGACY
def test_code_is_refused_and_not_run(tmp_path: Path, is_zip: bool) -> None:
    witness = tmp_path / "ran"
    path = save({"model": state(), "x": CallsSystem(witness)}, tmp_path / "evil.pth", is_zip)
    with pytest.raises(ValueError, match=rf"evil\.pth.* {os.name}\.system.*torch\.save"):
        read_torch(path)
    assert not witness.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_plain_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    witness, path = tmp_path / "ran", tmp_path / "plain.pth"
    path.write_bytes(pickle.dumps({"model": CallsSystem(witness)}, protocol))
    expected = rf"plain\.pth is rejected .* {os.name}\.system," if protocol else "not a PyTorch"
    with pytest.raises(ValueError, match=expected):
        read_torch(path)
    assert not witness.exists()


def test_other_numpy_types_are_refused(tmp_path: Path) -> None:
    # A pickled numpy.dtype can set its own size, and numpy then reads beyond its memory.
    path = save({"model": {}, "name": np.str_("x")}, tmp_path / "text.pth")
    with pytest.raises(ValueError, match=r"text\.pth.*numpy\.dtype\('U1'\)"):
        read_torch(path)


def test_numpy_array_is_refused_by_name(tmp_path: Path) -> None:
    path = save({"model": {"w": np.ones(3)}}, tmp_path / "array.pth")
    with pytest.raises(ValueError, match=r"numpy\.\S*_reconstruct"):
        read_torch(path)


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    torch.jit.script(nn.Linear(2, 2)).save(str(path))
    with pytest.raises(ValueError, match=r"script\.pt.*TorchScript"):
        read_torch(path)


@ZIP_AND_LEGACY
@pytest.mark.parametrize("kept", [0.002, 0.3, 0.999])
def test_half_a_download_is_told(tmp_path: Path, is_zip: bool, kept: float) -> None:
    path = save({"model": state()}, tmp_path / "half.pth", is_zip)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=r"half\.pth.*download it again") as caught:
        read_torch(path)
    assert "\n" not in str(caught.value)


def test_flipped_bit_is_found_by_the_checksum(tmp_path: Path) -> None:
    path = save({"model": state()}, tmp_path / "flipped.pth")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"flipped\.pth.*data/0.*download it again"):
        read_torch(path)


@pytest.mark.parametrize("name", ["file.pth", "file.safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>moved</html>", "is a web page"),
        (b"\n <HTML><head>", "is a web page"),
        (b"hello", "is not a (PyTorch checkpoint|complete safetensors file)"),
    ],
)
def test_other_files_are_told(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} {message}"):
        (read_torch if path.suffix == ".pth" else read_safetensors)(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_files_never_give_another_error(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for is_zip in (True, False):
        contents = {"model": {"w": torch.ones(3)}, "loss": [np.float64(1), np.bool_(True)]}
        whole = save(contents, tmp_path / "fuzz.pth", is_zip).read_bytes()
        for _ in range(150):
            content = bytearray(whole)
            for position in generator.integers(0, len(content), 8):
                content[position] = generator.integers(256)
            (tmp_path / "fuzz.pth").write_bytes(content)
            try:
                read_torch(tmp_path / "fuzz.pth")
            except ValueError as error:
                assert str(error).startswith(str(tmp_path / "fuzz.pth"))  # noqa: PT017


def test_mismatch_counts_and_names_the_differences() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    good = network.state_dict()
    assert find_mismatch(good, network) == (0, "")
    assert find_mismatch({k: v.half() if v.ndim else v for k, v in good.items()}, network)[0] == 0
    bad = dict(good)
    bad["0.weight"] = torch.zeros(8, 3, 5, 5)
    bad["1.num_batches_tracked"] = torch.tensor(0.0)
    del bad["0.bias"]
    bad.update({f"head.{i}": torch.zeros(1) for i in range(4)})
    assert find_mismatch(bad, network) == (
        7,
        "missing 0.bias; unexpected head.0, head.1 and 2 more; 0.weight is 8×3×5×5 and not "
        "8×3×3×3, 1.num_batches_tracked is a scalar and not a scalar of torch.int64",
    )


def test_state_hash_depends_on_names_types_shapes_and_values_not_on_order() -> None:
    first = state()
    digest = state_sha256(first)
    assert state_sha256(dict(reversed(first.items()))) == digest
    assert state_sha256({k: v.half() for k, v in first.items()}) != digest
    assert state_sha256({k: v.flatten() for k, v in first.items()}) != digest
    first["conv.bias"][7] += 1
    assert state_sha256(first) != digest


def test_safetensors_cut_short_is_told(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    save_file(state(), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"cut\.safetensors.*import it again"):
        read_safetensors(path)
