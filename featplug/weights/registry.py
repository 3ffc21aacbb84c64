"""The registry of weights files, ``weights/registry.toml``, and where the files are.

Authors' files are searched in ``$FEATPLUG_WEIGHTS`` and then in the user cache, as imported
safetensors or under their own names; weights of ours are shipped next to the registry.
"""

import importlib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs
import torch
from torch import Tensor, nn

from featplug.io.limits import MAX_BYTES
from featplug.utils.suggestions import unknown_name
from featplug.weights.checkpoints import find_mismatch, max_file_bytes

FOLDER_VARIABLE = "FEATPLUG_WEIGHTS"
"""Environment variable with the folder that is searched first and that imports go to."""

_RESTRICTED = r"not stated|unknown|non-?commercial|\bNC\b|research only"
# All that a converter may raise, besides ValueError, on values that no file of its kind has.
_STRANGE = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError)


@dataclass(frozen=True)
class WeightsRecord:
    """Which weights were loaded, as it is logged and kept in every result."""

    name: str
    """The registry entry, or the file's name where the user gave a path."""
    origin: str
    """``official`` (the authors' file), ``featplug`` (shipped here) or ``file`` (a user's path)."""
    path: Path
    """The file that was read."""
    sha256: str
    """Hash of the authors' file, also where it was imported, or of the user's own file."""


class Hashes(NamedTuple):
    """Hashes that identify an authors' file."""

    sha256: str
    git_blob: str | None = None
    """Id in git; unknown for a converted file."""


@dataclass(frozen=True)
class Source:
    """One file that holds an entry's weights."""

    file: str
    licence: str
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    git_blob: str | None = None
    size: int | None = None

    def agrees(self, hashes: Hashes) -> bool | None:
        """Return whether a file with these hashes is this one; None if no hash is known."""
        pairs = ((self.sha256, hashes.sha256), (self.git_blob, hashes.git_blob))
        compared = [known == found for known, found in pairs if known and found]
        return all(compared) if compared else None


@dataclass(frozen=True)
class RegistryEntry:
    """One table of the registry, whose head explains the fields."""

    name: str
    feature: str
    citation: str
    network: str
    sources: tuple[Source, ...]
    converter: str = ""
    origin: str = "official"
    automatic: bool = True
    arguments: dict[str, Any] = field(default_factory=dict)
    derived: Sequence[str] = ()
    requires: dict[str, Any] = field(default_factory=dict)
    includes: Sequence[str] = ()

    def build_network(self, state: Mapping[str, Tensor]) -> nn.Module:
        """Build the network, see :func:`build_network`."""
        network = build_network(_import_attribute(self.network), state, **self.arguments)
        self.check_requirements(network)
        return network

    def complete(self, state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        """Add the tensors that a network computes itself, and that a file need not hold."""
        names = tuple(f".{name}" for name in self.derived)
        computed = network.state_dict().items()
        return {**{k: value for k, value in computed if f".{k}".endswith(names)}, **state}

    def compare(self, state: Mapping[str, Tensor]) -> tuple[float, str]:
        """Compare tensors with the network; see :func:`~.checkpoints.find_mismatch`."""
        try:
            network = self.build_network(state)
        except ValueError as error:
            return float("inf"), str(error).rstrip(".")
        return find_mismatch(self.complete(state, network), network)

    def check_requirements(self, network: nn.Module) -> None:
        """Raise ``ValueError`` if a network lacks the attributes that the entry requires."""
        for name, required in self.requires.items():
            actual = getattr(network, name)
            if actual != required:
                raise ValueError(f"{name} is {actual} and not {required}")

    @property
    def mirrors(self) -> list[tuple[Source, str]]:
        """Sources and their mirrors in order, addresses without encryption last."""
        mirrors = [(source, url) for source in self.sources for url in source.urls]
        return sorted(mirrors, key=lambda mirror: mirror[1].startswith("http:"))

    @cached_property
    def max_bytes(self) -> int:
        """Largest size of a file of these weights, and of what it unpacks to."""
        with torch.device("meta"):
            network = _import_attribute(self.network)(**self.arguments)
        return min(max_file_bytes(network), MAX_BYTES)

    def convert(self, path: Path) -> dict[str, Tensor]:
        """Read an authors' file as a state dict in the network's names.

        Raises:
            ValueError: the file is damaged, too large, or another system's.
        """
        try:
            return _import_attribute(self.converter)(path, self.max_bytes)
        except _STRANGE as error:
            reason = str(error).split("\n")[0].rstrip(".") or type(error).__name__
            raise ValueError(
                f"{path} is damaged or another system's file ({reason}); download it again."
            ) from error

    def find(self) -> tuple[Path, str] | None:
        """Return the file to use, and whether it is imported, an authors' file or shipped."""
        files = [source.file for source in self.sources]
        if self.origin == "featplug":
            shipped = [shipped_folder() / file for file in files]
            return next(((path, "shipped") for path in shipped if path.is_file()), None)
        for folder in search_folders():
            imported = folder / f"{self.name}.safetensors"
            if imported.is_file():
                return imported, "imported"
            for file in files:
                if (folder / file).is_file():
                    return folder / file, "authors' file"
        return None

    def source_of(self, file: str, hashes: Hashes | None = None) -> Source | None:
        """Return the source with one of these hashes, else the one with this file name."""
        by_hash = [source for source in self.sources if hashes and source.agrees(hashes)]
        by_name = [source for source in self.sources if source.file == file]
        return next(iter(by_hash + by_name), None)

    def explain_missing(self) -> str:
        """Return a sentence that the file is missing and how to get it."""
        source = self.sources[0]
        if self.origin == "featplug":
            return f"{source.file} is not in {shipped_folder()}; install featplug again."
        folders = " nor in ".join(map(str, search_folders()))
        fetch = f"run `featplug weights fetch {self.name}`, or " if source.urls else ""
        pages = [url for url in source.urls if url.startswith("http")]
        url = f" from {pages[0]}" if pages else ""
        owner = "" if self.feature == self.name else f" of {self.feature}"
        return (
            f"The weights {self.name}{owner} are not in {folders}; {fetch}get "
            f"{source.file}{url} and run `featplug weights import {source.file}`."
        )


def build_network(network_class: Any, state: Mapping[str, Tensor], **options: Any) -> Any:
    """Build a network: names and shapes, on the ``meta`` device without memory where possible.

    Networks of other packages may keep tensors that their state dicts lack, so they are built on
    the CPU, without a change of torch's random numbers.

    Args:
        network_class: class of the network. If the file lists its layers, a class method
            ``from_state`` builds it from the state dict.
        state: the weights.
        options: arguments of any other class.

    Raises:
        ValueError: the weights are of another network; the message says why in a few words.
    """
    if not _keeps_all_in_state(network_class):
        with torch.random.fork_rng(devices=[]):
            return network_class(**options)
    with torch.device("meta"):
        if hasattr(network_class, "from_state"):
            return network_class.from_state(state)
        return network_class(**options)


def _keeps_all_in_state(network_class: Any) -> bool:
    bases = getattr(network_class, "__mro__", (network_class,))
    packages = {base.__module__.partition(".")[0] for base in bases}
    return packages <= {"featplug", "torch", "builtins"}


def is_restricted(licence: str) -> bool:
    """Return whether a licence is not stated, or does not allow commercial use."""
    return re.search(_RESTRICTED, licence, re.IGNORECASE) is not None


def read_registry() -> dict[str, RegistryEntry]:
    """Read the entries of the registry by name, in the order of the file."""
    with (shipped_folder() / "registry.toml").open("rb") as file:
        tables = tomllib.load(file)
    registry = {}
    for name, table in tables.items():
        sources = tuple(
            Source(**{**source, "urls": tuple(source.get("urls", ()))})
            for source in table.pop("sources")
        )
        registry[name] = RegistryEntry(name=name, sources=sources, **table)
    return registry


def get_entry(name: str) -> RegistryEntry:
    """Look up one entry.

    Raises:
        ValueError: no entry has this name; lists those that exist.
    """
    registry = read_registry()
    if name not in registry:
        raise unknown_name("weights entry", name, registry)
    return registry[name]


def preferred_entries(checkpoint: str) -> list[RegistryEntry]:
    """List the entries of a feature key that are used by default, the authors' weights first."""
    entries = [e for e in read_registry().values() if e.feature == checkpoint and e.automatic]
    return sorted(entries, key=lambda entry: entry.origin != "official")


def shipped_folder() -> Path:
    """Return the folder of the registry and the shipped weights, in a wheel or in a checkout."""
    package = Path(__file__).resolve().parents[1]
    in_wheel = package / "_weights"
    return in_wheel if in_wheel.is_dir() else package.parent / "weights"


def search_folders() -> list[Path]:
    """List the folders that authors' weights are searched in; imports go to the first one."""
    given = os.environ.get(FOLDER_VARIABLE)
    cache = Path(platformdirs.user_cache_dir("featplug")) / "weights"
    return [*([Path(given).expanduser()] if given else []), cache]


def _import_attribute(spec: str) -> Any:
    module, _, attribute = spec.partition(":")
    return getattr(importlib.import_module(module), attribute)
