"""Finding, loading and verifying the weights of a network."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from featplug.weights.checkpoints import find_mismatch, misfit, read_metadata
from featplug.weights.registry import (
    RegistryEntry,
    WeightsRecord,
    build_network,
    get_entry,
    is_restricted,
    preferred_entries,
    read_registry,
    search_folders,
)
from featplug.weights.verification import read_weights

logger = logging.getLogger(__name__)

_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(frozen=True)
class WeightsStatus:
    """One registry entry, and the file that would be used."""

    entry: str
    feature: str
    licence: str
    """Licence of the file that is found, else of the authors' own."""
    citation: str
    url: str | None
    path: Path | None
    how: str
    """State: ``imported``, ``authors' file``, ``shipped``, ``missing`` or ``damaged``."""
    file: str
    """Name of the authors' file."""
    includes: Sequence[str] = ()
    """Feature keys of other networks that the file holds too."""


@dataclass(frozen=True)
class WeightsCheck:
    """The outcome of verifying one registry entry."""

    entry: str
    path: Path | None
    ok: bool
    message: str
    """Verified hash, or what is wrong."""


class MissingWeightsError(FileNotFoundError):
    """A known weights file is not on this machine."""

    def __init__(self, entry: RegistryEntry) -> None:
        super().__init__(entry.explain_missing())
        self.entry = entry


def load_weights(checkpoint: str, choice: str, network: nn.Module) -> WeightsRecord:
    """Find weights, check them and load them into a network.

    Args:
        checkpoint: the registry's feature key, e.g. ``d2net``.
        choice: ``auto`` (the authors' file where it is found, else the shipped one),
            ``official``, ``featplug``, the name of a registry entry, or a path.
        network: takes the tensors as float32; one on the ``meta`` device ends up on the CPU.

    Raises:
        FileNotFoundError: the weights are missing; the message says how to get them.
        ValueError: the file is damaged, rejected, or does not fit the network.
    """
    state, record, _ = _find(checkpoint, choice)
    _assign(state, network, record.path)
    return record


def load_network(
    checkpoint: str, choice: str, network_class: Callable[..., _Network], **options: Any
) -> tuple[_Network, WeightsRecord]:
    """Build a network and load its weights, see :func:`load_weights`.

    Args:
        checkpoint: the registry's feature key, e.g. ``doap``.
        choice: as for :func:`load_weights`.
        network_class: class of the network.
        options: arguments of the class, unless the file lists the layers of the network.

    Returns:
        The network on the CPU in float32, and what was loaded.
    """
    state, record, entry = _find(checkpoint, choice)
    try:
        network = build_network(network_class, state, **options)
        if entry is not None:
            entry.check_requirements(network)
            state = entry.complete(state, network)
    except ValueError as error:
        raise misfit(record.path, checkpoint, str(error)) from error
    _assign(state, network, record.path)
    return network, record


def read_checkpoint(checkpoint: str, choice: str) -> tuple[dict[str, Tensor], WeightsRecord]:
    """Return the tensors of weights, see :func:`load_weights`, and the file they come from."""
    state, record, _ = _find(checkpoint, choice)
    return state, record


def require_weights(model: Mapping[str, Any]) -> None:
    """Raise FileNotFoundError if the weights of the ``model`` of a conf are missing."""
    if "checkpoint" in model:
        _choose(model["checkpoint"], model.get("weights", "auto"))


def explain_all_missing(model: Mapping[str, Any]) -> str | None:
    """Return a sentence on all files that a model of several networks lacks; None below two."""
    missing = []
    for key, checkpoint in model.items():
        if key.endswith("checkpoint") and checkpoint is not None:
            try:
                _choose(checkpoint, model.get(key.replace("checkpoint", "weights"), "auto"))
            except MissingWeightsError as error:
                missing.append(error.entry.name)
            except (FileNotFoundError, ValueError):  # an explanation of its own
                return None
    if len(missing) < 2:
        return None
    names, folders = " ".join(missing), " nor in ".join(map(str, search_folders()))
    return (
        f"The weights {' and '.join(missing)} are not in {folders}; run `featplug weights fetch "
        f"{names}`, or import their files, which `featplug weights list` shows."
    )


def _find(
    checkpoint: str, choice: str
) -> tuple[dict[str, Tensor], WeightsRecord, RegistryEntry | None]:
    """Find and read the weights of a choice of :func:`load_weights`."""
    entry, path, origin = _choose(checkpoint, choice)
    state, sha256 = read_weights(path, entry, compare=origin != "file")
    name = path.name if entry is None or origin == "file" else entry.name
    logger.info("weights: %s (%s) %s sha256 %s…", name, origin, path, sha256[:12])
    if entry is not None and origin == "official":
        licence = _licence(entry, path)
        if is_restricted(licence):
            logger.warning("weights: %s has the licence: %s", name, licence)
    return state, WeightsRecord(name=name, origin=origin, path=path, sha256=sha256), entry


def _assign(state: Mapping[str, Tensor], network: nn.Module, path: Path) -> None:
    """Load tensors strictly, as float32, and off the ``meta`` device."""
    _, mismatch = find_mismatch(state, network)
    if mismatch:
        raise misfit(path, type(network).__name__, mismatch)
    loadable = {}
    for key, target in network.state_dict().items():
        dtype = torch.float32 if target.is_floating_point() else target.dtype
        device = "cpu" if target.is_meta else target.device
        # A copy, so that the network does not stay mapped to a file that may be replaced.
        loadable[key] = state[key].to(device, dtype, copy=True)
    network.load_state_dict(loadable, strict=True, assign=True)


def list_weights() -> list[WeightsStatus]:
    """Report for each registry entry which file would be used, without reading its tensors."""
    return [weights_status(entry) for entry in read_registry().values()]


def weights_status(entry: RegistryEntry) -> WeightsStatus:
    """Report which file of a registry entry would be used, without reading its tensors."""
    path, how = entry.find() or (None, "missing")
    licence = entry.sources[0].licence
    if path is not None:
        try:
            licence = _licence(entry, path)
        except ValueError:
            how = "damaged"
    url = next((url for source in entry.sources for url in source.urls), None)
    file = entry.sources[0].file
    return WeightsStatus(
        entry.name, entry.feature, licence, entry.citation, url, path, how, file, entry.includes
    )


def _licence(entry: RegistryEntry, path: Path) -> str:
    """Return the licence of an authors' file, or the one that an import has recorded."""
    source = entry.source_of(path.name)
    if source is not None:
        return source.licence
    return read_metadata(path).get("licence", entry.sources[0].licence)


def verify_weights(names: Iterable[str] | None = None) -> list[WeightsCheck]:
    """Recompute the hashes of weights, by default all, and compare each with its network.

    Raises:
        ValueError: a name is not in the registry.
    """
    entries = read_registry().values() if names is None else map(get_entry, names)
    checks = []
    for entry in entries:
        path, how = entry.find() or (None, "missing")
        if path is None:
            if names is not None:
                checks.append(WeightsCheck(entry.name, None, False, entry.explain_missing()))
            continue
        try:
            state, sha256 = read_weights(path, entry)
            _, mismatch = entry.compare(state)
            if mismatch:
                raise misfit(path, entry.network.rpartition(":")[2], mismatch)
        except ValueError as error:
            checks.append(WeightsCheck(entry.name, path, False, str(error)))
        else:
            checks.append(WeightsCheck(entry.name, path, True, f"{how}, sha256 {sha256}"))
    return checks


def _choose(checkpoint: str, choice: str) -> tuple[RegistryEntry | None, Path, str]:
    """Resolve a choice of :func:`load_weights` to an entry, a file and its origin."""
    registry = read_registry()
    entries = [entry for entry in registry.values() if entry.feature == checkpoint]
    if choice in registry:
        wanted = [entry for entry in entries if entry.name == choice]
        if not wanted:
            raise ValueError(
                f"The weights {choice} are for {registry[choice].feature}, not for {checkpoint}; "
                f"{checkpoint} has {', '.join(entry.name for entry in entries) or 'none'}."
            )
    elif choice in ("auto", "official", "featplug"):
        wanted = [e for e in preferred_entries(checkpoint) if choice in ("auto", e.origin)]
    else:
        path = Path(choice).expanduser()
        if not path.is_file():
            names = ", ".join(["auto", "official", "featplug", *(entry.name for entry in entries)])
            raise FileNotFoundError(
                f"There is no weights file {choice}; give a file or one of {names}."
            )
        named = [entry for entry in entries if entry.source_of(path.name)]
        return next(iter(named + entries), None), path, "file"
    for entry in wanted:
        found = entry.find()
        if found is not None:
            return entry, found[0], entry.origin
    if not wanted:
        kind = "" if choice == "auto" else f"{choice} "
        raise FileNotFoundError(
            f"There are no {kind}weights for {checkpoint}; give the path of a file instead."
        )
    raise MissingWeightsError(wanted[0])
