from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from featplug.weights.checkpoints import (
    find_mismatch,
    read_safetensors,
    read_torch,
    state_sha256,
)
from tests.weights.torch_writer import Announced, pickled, write_legacy, write_zip

F8 = torch.float8_e5m2
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
    expected = rf"plain\.pth is rejected .* {os.name}\.system;" if protocol else "not a PyTorch"
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


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_a_file_with_true_sizes_is_read(tmp_path: Path, write: Callable[..., Path]) -> None:
    numbers = np.arange(10, dtype=np.float32)
    tensors = {"a": Announced("0", 10, (2, 3), (5, 1), 2), "b": Announced("0", 10, (4, 10), (0, 1))}
    read = read_torch(write(tmp_path / "true.pth", tensors, {"0": numbers.tobytes()}))
    np.testing.assert_array_equal(read["a"], [[2, 3, 4], [7, 8, 9]])
    np.testing.assert_array_equal(read["b"], np.tile(numbers, (4, 1)))


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize(
    "tensors",
    [
        {"a": Announced("0", 2**40, (10,), (1,))},
        {"a": Announced("0", 11, (11,), (1,))},
        {"a": Announced("0", 10, (11,), (1,))},
        {"a": Announced("0", 10, (10,), (1,), 1)},
        {"a": Announced("0", 10, (2, 2), (9, 1))},
        {"a": Announced("0", 10, (2**40,), (0,))},
        {"a": Announced("0", 10, (2**40, 2**40), (0, 0))},
        {"a": Announced("0", 10, (-1,), (1,))},
        {"a": Announced("0", 10, (2, 5), (-5, 1))},
        {"a": Announced("0", 10, (10,), (1, 1))},
        {"a": Announced("1", 10, (10,), (1,))},
        {str(i): Announced("0", 10, (10, 1000), (1, 0)) for i in range(2000)},
    ],
)
def test_a_tensor_larger_than_the_file_is_rejected(
    tmp_path: Path, write: Callable[..., Path], tensors: dict[str, Announced]
) -> None:
    path = write(tmp_path / "bomb.pth", tensors, {"0": bytes(40)})
    with pytest.raises(ValueError, match=r"bomb\.pth.*download it again"):
        read_torch(path, 2**24)


def test_a_compressed_checkpoint_is_rejected(tmp_path: Path) -> None:
    tensors = {"a": Announced("0", 2**16, (2**16,), (1,))}
    path = tmp_path / "packed.pth"
    write_zip(path, tensors, {"0": bytes(2**18)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"packed\.pth.*is compressed.*download it again"):
        read_torch(path)
    with pytest.raises(ValueError, match=r"packed\.pth.*unpacks to more than.*download it again"):
        read_torch(path, 2**16)


def test_a_file_larger_than_its_weights_is_not_read(tmp_path: Path) -> None:
    for name, read in (("a.pth", read_torch), ("a.safetensors", read_safetensors)):
        path = tmp_path / name
        with path.open("wb") as file:
            file.truncate(2**40)
        with pytest.raises(ValueError, match=rf"{name} has 1,099,512 MB.*give the authors' file"):
            read(path)


def nested_key() -> bytes:
    key = pickled("x")[2:-1]  # without PROTO and STOP
    return b"\x80\x02}" + key + b"".join(b"q\x00h\x00\x86" for _ in range(60)) + b"Ns."


@ZIP_AND_LEGACY
@pytest.mark.parametrize(
    "program",
    [
        nested_key(),
        b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
        b"\x80\x02ctorch\nFloatTensor\n\x8a\x05\x00\x00\x00\x00\x10\x85R.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x08\x00\x00\x00punycode\x86R.",
        b"\x80\x02" + b"]" * 500_000 + b".",
        b"\x80\x02]]aa.",
        b"\x80\x02h\x07.",
        b"\x80\x02e.",
        b"\x80\x02\x86.",
        b"\x80\x02.",
        b"",
    ],
    ids=range(11),
)
def test_a_crafted_pickle_is_rejected(tmp_path: Path, is_zip: bool, program: bytes) -> None:
    write: Callable[..., Path] = write_zip if is_zip else write_legacy
    path = write(tmp_path / "crafted.pth", program, {})
    with pytest.raises(ValueError, match=r"crafted\.pth.*(download it again|torch\.save)"):
        read_torch(path)


@ZIP_AND_LEGACY
@pytest.mark.parametrize("kind", ["sparse", "quantized", "meta", "complex", "float8"])
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_not_dense_are_refused(tmp_path: Path, is_zip: bool, kind: str) -> None:
    tensor: Tensor = torch.ones(4, 4)
    if kind == "sparse":
        tensor = tensor.to_sparse()
    elif kind == "quantized":
        tensor = torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)
    elif kind == "meta":
        tensor = tensor.to("meta")
    else:
        tensor = tensor.to(torch.complex64 if kind == "complex" else torch.float8_e4m3fn)
    path = save({"model": {"w": tensor}}, tmp_path / "kind.pth", is_zip)
    with pytest.raises(ValueError, match=r"kind\.pth.* needs torch\..*model\.state_dict"):
        read_torch(path)


@ZIP_AND_LEGACY
def test_a_whole_file_with_nested_keys_is_not_called_damaged(tmp_path: Path, is_zip: bool) -> None:
    path = save({("a", ("b", "c")): torch.ones(2)}, tmp_path / "nested.pth", is_zip)
    with pytest.raises(ValueError, match=r"nested\.pth is rejected.*model\.state_dict"):
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


def test_values_that_are_not_finite_are_a_mismatch() -> None:
    network = nn.Linear(2, 2)
    for value, dtype in ((torch.nan, torch.float16), (-torch.inf, torch.float32), (torch.nan, F8)):
        state = {key: tensor.to(dtype) for key, tensor in network.state_dict().items()}
        state["bias"][1] = value
        assert find_mismatch(state, network) == (1, "bias has values that are not finite")


def test_state_hash_depends_on_names_types_shapes_and_values_not_on_order() -> None:
    first = state()
    digest = state_sha256(first)
    assert state_sha256(dict(reversed(first.items()))) == digest
    assert state_sha256({k: v.half() for k, v in first.items()}) != digest
    assert state_sha256({k: v.flatten() for k, v in first.items()}) != digest
    first["conv.bias"][7] += 1
    assert state_sha256(first) != digest


@pytest.mark.parametrize("size", [2**24 + 1, 2**40, 2**63])
def test_safetensors_that_announce_a_huge_head_are_rejected(tmp_path: Path, size: int) -> None:
    path = tmp_path / "head.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match=r"head\.safetensors.*import it again"):
        read_safetensors(path)


def test_safetensors_cut_short_is_told(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    save_file(state(), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"cut\.safetensors.*import it again"):
        read_safetensors(path)
