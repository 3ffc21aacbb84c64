"""Reading weights files of any kind, with every hash that is known of them checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from featplug.weights.checkpoints import find_mismatch, read_safetensors, state_sha256
from featplug.weights.identity import check_known, entries_named, hash_source, refuse_exchanged
from featplug.weights.registry import RegistryEntry


def read_weights(
    path: Path, entry: RegistryEntry | None, compare: bool = True
) -> tuple[dict[str, Tensor], str]:
    """Read a weights file of any kind and check every hash that is known of it.

    Args:
        path: a safetensors file, or an authors' file.
        entry: the registry entry whose converter reads an authors' file.
        compare: compare with the registry's hash too; False for a file of the user's own.

    Returns:
        The state dict and the hash for :attr:`featplug.weights.registry.WeightsRecord.sha256`.
    """
    known = entry if compare else None
    if path.suffix == ".safetensors":
        state, metadata = read_recorded(path)
        hashes = hash_source(path, metadata)
        check_known(path, known, metadata.get("source_file", path.name), hashes)
        return state, hashes.sha256
    if entry is None:
        raise ValueError(f"{path} is of an unknown kind; give a .safetensors file.")
    hashes = hash_source(path, {})
    refuse_exchanged(path, entries_named(path.name), hashes)
    check_known(path, known, path.name, hashes)
    return entry.convert(path), hashes.sha256


def read_recorded(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file and compare its tensors with the hash in its metadata, if any."""
    state, metadata = read_safetensors(path)
    recorded = metadata.get("tensors_sha256")
    if recorded and recorded != state_sha256(state):
        raise ValueError(
            f"{path} is damaged: its tensors do not have the hash that was recorded when it was "
            "written; fetch or import it again."
        )
    return state, metadata


def compare_with_entry(state: Mapping[str, Tensor], entry: RegistryEntry) -> tuple[float, str]:
    """Compare tensors with an entry's network; see :func:`find_mismatch`."""
    try:
        network = entry.build_network(state)
    except ValueError as error:
        return float("inf"), phrase(error)
    return find_mismatch(state, network)


def phrase(error: ValueError) -> str:
    """Give what an error says, to be part of another sentence."""
    return str(error).rstrip(".")
