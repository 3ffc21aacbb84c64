"""Damaged and crafted weights files of every format: what do imports and loads make of them?

``python -m tests.attacks.weights --trials 150 --seed 0``. A trial imports a file by its entry's
name, as ``featplug weights import`` does, or loads it as ``--weights FILE`` does. Besides crashes,
hangs and bombs, a trial fails if the message lacks the file or a remedy, or if tensors are
accepted that have other names, shapes or values, or that are not finite. Four containers have no
checksum, so that other finite values are not found in them: PyTorch's form before 1.6, MATLAB's
uncompressed version 5 and version 7.3, TensorFlow's frozen graphs, alone or in an uncompressed
archive, and safetensors without the hash that imports and trainings record.
"""

import gzip
import importlib
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from safetensors.torch import load_file, save_file
from scipy.io import savemat
from torch import Tensor

from featplug.networks.contextdesc import ContextDesc
from featplug.weights.importing import import_weights
from featplug.weights.loading import load_network
from featplug.weights.registry import get_entry, shipped_folder
from tests.attacks.harness import Outcome, Tally, attempt
from tests.networks.contextdesc_weights import as_variables, seeded_state
from tests.weights import crafted_files
from tests.weights.converters import tensorflow_writer as writer
from tests.weights.converters.matlab_writer import (
    _v5,
    network,
    seeded_params,
    trunk_layers,
    write_mat,
)

CHECKED = ("zip.pth", "packed.mat", "model.index", "packed.tar", "imported.safetensors")
"""Files whose containers have checksums of all values."""
OTHER_VALUES = 4
"""Exit code of a trial that accepts other values."""


def write_clean(folder: Path) -> dict[str, str]:
    """Write whole files; return the registry entry of each."""
    lisrd = load_file(shipped_folder() / "lisrd.safetensors")
    lisrd = {key: value.float() if value.ndim else value for key, value in lisrd.items()}
    for name, is_zip in (("zip.pth", True), ("legacy.pth", False)):
        contents = {"model_state_dict": lisrd, "epoch": 3}
        torch.save(contents, folder / name, _use_new_zipfile_serialization=is_zip)
    net = network("dagnn", trunk_layers(seeded_params(), "7b"))
    write_mat(folder / "packed.mat", "5", {"net": net})
    savemat(folder / "plain.mat", {"net": _v5(net)})
    write_mat(folder / "hdf5.mat", "7.3", {"net": net})
    variables = as_variables(seeded_state(ContextDesc(64)))
    parts = {"loc.pb": ("conv", "kpt_m/"), "aug.pb": ("vis_context/", "geo_context/")}
    for name, starts in parts.items():
        arrays = {key: value for key, value in variables.items() if key.startswith(starts)}
        (folder / name).write_bytes(writer.frozen_graph(arrays))
    writer.write_checkpoint(folder, "model", variables)
    writer.write_tar(folder / "plain.tar", {name: (folder / name).read_bytes() for name in parts})
    members = {file.name: file.read_bytes() for file in folder.glob("model.*")}
    writer.write_tar(folder / "packed.tar", members)
    with gzip.open(folder / "graphs.tar", "wb", 1) as file:
        file.write((folder / "plain.tar").read_bytes())
    save_file(lisrd, folder / "plain.safetensors")
    record = import_weights(folder / "zip.pth", "lisrd_aachen", folder / "imported")
    shutil.move(record.path, folder / "imported.safetensors")
    entries = {"pth": "lisrd_aachen", "mat": "doap_liberty_256b", "safetensors": "lisrd_aachen"}
    return {
        file.name: entries.get(file.suffix[1:], "contextdesc_pp")
        for file in sorted(folder.iterdir())
        if file.is_file() and ".data-" not in file.name
    }


def damage(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Damage a file somewhere, half of the time where its structure is dense."""
    size = len(content)
    ends = rng.random() < 0.5
    at = rng.choice([rng.randrange(min(size, 4096)), size - 1 - rng.randrange(min(size, 8192))])
    at = at if ends else rng.randrange(size)
    length = rng.choice([1, 8, 64, 4096, 100_000])
    kind = rng.choice(
        ["flip", "flips", "cut", "zeros", "insert", "delete", "swap", "ones", "random"]
    )
    edited = bytearray(content)
    if kind == "flip":
        edited[at] ^= 1 << rng.randrange(8)
    elif kind == "flips":
        for _ in range(20):
            edited[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del edited[at:]
    elif kind == "insert":
        edited[at:at] = rng.randbytes(length)
    elif kind == "delete":
        del edited[at : at + length]
    elif kind == "swap":
        other = rng.randrange(size)
        a, b = edited[at : at + 8], edited[other : other + 8]
        edited[at : at + len(b)], edited[other : other + len(a)] = b, a
    else:
        count = len(edited[at : at + length])
        fill = {"zeros": bytes(count), "ones": b"\xff" * count, "random": rng.randbytes(count)}
        edited[at : at + length] = fill[kind]
    return kind, bytes(edited)


def expected_state(path: Path, entry: str) -> dict[str, Tensor]:
    """Return what a whole file is loaded as."""
    if path.suffix == ".safetensors":
        return load_file(path)
    return get_entry(entry).convert(path)


def trial(
    path: Path, entry: str, expected: dict[str, Tensor], is_import: bool
) -> Callable[[], None]:
    """Return a trial that exits with 2 and a sentence, or with the verdict on what it accepted."""

    def run() -> None:
        try:
            if is_import:
                state = load_file(import_weights(path, entry, path.parent / "weights").path)
            else:
                known = get_entry(entry)
                module, _, name = known.network.partition(":")
                network_class = getattr(importlib.import_module(module), name)
                state = load_network(known.feature, str(path), network_class)[0].state_dict()
        except (ValueError, OSError) as error:
            print(error)
            sys.exit(2)
        for key, value in expected.items():
            if state[key].shape != value.shape or not state[key].isfinite().all():
                print(f"{key} is not what it should be")
                sys.exit(OTHER_VALUES + 1)
        same = all(
            torch.equal(state[key].to(value.dtype), value) for key, value in expected.items()
        )
        sys.exit(0 if same and state.keys() == expected.keys() else OTHER_VALUES)

    return run


def judge(outcome: Outcome, path: Path, is_checked: bool) -> str | None:
    """Return the fault of a trial that only this attack can see."""
    if outcome.exit_code == 2:
        lines = outcome.output.strip().splitlines()
        message = lines[-1] if lines else ""
        is_remedy = "; " in message or "another system" in message
        return (
            None if str(path.parent) in message and is_remedy else "message without file or remedy"
        )
    if outcome.exit_code == OTHER_VALUES and not is_checked:
        return None
    return None if outcome.exit_code == 0 else f"accepted with other values ({outcome.exit_code})"


def main(trials: int = 150, seed: int = 0, only: str = "") -> None:
    """Run the attack and print its line of the table.

    Args:
        trials: number of damaged files, in addition to each crafted one.
        seed: of the damage.
        only: part of the names of the crafted files to write; all by default.
    """
    crafted_files.BOMB_MIB = 3000
    torch.set_num_threads(1)
    tally = Tally("weights", seed)
    with tempfile.TemporaryDirectory() as name:
        clean, folder = Path(name) / "clean", Path(name) / "trial"
        clean.mkdir()
        entries = write_clean(clean)
        states = {file: expected_state(clean / file, entry) for file, entry in entries.items()}
        for number in range(trials):
            rng = random.Random(f"{seed} {number}")
            file = rng.choice(sorted(entries))
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(clean, folder)
            path = folder / file
            target = next(folder.glob("model.data*")) if rng.random() < 0.5 else path
            target = target if file == "model.index" else path
            kind, content = damage(target.read_bytes(), rng)
            target.write_bytes(content)
            run = trial(path, entries[file], states[file], number % 2 == 0)
            outcome = attempt(run)
            fault = judge(outcome, path, file in CHECKED)
            tally.add(f"{number} {kind} {target.name}", outcome, fault)
        for name, (entry, file, write) in crafted_files.CRAFTED.items():
            if only in name:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                attempt(lambda write=write, path=folder / file: write(path), 300)
                for is_import in (True, False):
                    outcome = attempt(trial(folder / file, entry, {}, is_import))
                    fault = judge(outcome, folder / file, True)
                    tally.add(f"{name} {'import' if is_import else 'load'}", outcome, fault)
    tally.finish()


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    tyro.cli(main)
