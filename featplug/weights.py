"""Weights files: loading one into a network, importing, downloading and verifying them.

An import turns an authors' file into safetensors, with the hashes of the original and of its
tensors in the metadata, so that every later load is checked. :mod:`featplug.registry` says which
files there are, :mod:`featplug.checkpoints` how they are read without running code.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from featplug import __version__
from featplug.checkpoints import (
    find_mismatch,
    read_metadata,
    read_safetensors,
    save_readable,
    state_sha256,
)
from featplug.download import download
from featplug.files import write_whole
from featplug.identity import (
    check_known,
    entries_named,
    hash_source,
    recognise,
    refuse_exchanged,
)
from featplug.registry import (
    FOLDER_VARIABLE,
    NetworkFromState,
    RegistryEntry,
    WeightsRecord,
    get_entry,
    preferred_entries,
    read_registry,
    search_folders,
)

logger = logging.getLogger(__name__)

_FILE_ITSELF = "is refused|web page|is empty|half downloaded"


@dataclass(frozen=True)
class WeightsStatus:
    """One registry entry and which file of it is there."""

    entry: str
    feature: str
    licence: str
    """Of the file that is there, else of the authors' own."""
    citation: str
    url: str | None
    path: Path | None
    how: str
    """``imported``, ``authors' file``, ``shipped``, ``missing`` or ``damaged``."""
    file: str
    """The authors' own name of it."""
    includes: Sequence[str] = ()
    """Feature keys of other networks that the file holds too."""


@dataclass(frozen=True)
class WeightsCheck:
    """The outcome of verifying one registry entry."""

    entry: str
    path: Path | None
    ok: bool
    message: str
    """The hash that was found right, or what is wrong."""


def load_weights(checkpoint: str, choice: str, network: nn.Module) -> WeightsRecord:
    """Find weights, check them and load them into a network.

    Args:
        checkpoint: the registry's feature key, e.g. ``d2net``.
        choice: ``auto`` (the authors' file where it is found, else the shipped one),
            ``official``, ``featplug``, the name of a registry entry, or a path.
        network: takes the tensors as float32; one on the ``meta`` device ends up on the CPU.

    Returns:
        What was loaded.

    Raises:
        FileNotFoundError: the weights are not there; the message says how to get them.
        ValueError: the file is damaged, refused, or does not fit the network.
    """
    state, record, _ = _find(checkpoint, choice)
    _assign(state, network, record.path)
    return record


def load_network(
    checkpoint: str, choice: str, network_class: type[NetworkFromState]
) -> tuple[nn.Module, WeightsRecord]:
    """Find weights, check them, and build the network that they are of.

    Args:
        checkpoint: the registry's feature key, e.g. ``doap``.
        choice: as for :func:`load_weights`.
        network_class: builds the network whose layers the file lists.

    Returns:
        The network on the CPU in float32, and what was loaded.

    Raises:
        FileNotFoundError: the weights are not there; the message says how to get them.
        ValueError: the file is damaged, refused, or holds no such network.
    """
    state, record, entry = _find(checkpoint, choice)
    try:
        with torch.device("meta"):
            network = network_class.from_state(state)
        if entry is not None:
            entry.check_requirements(network)
    except ValueError as error:
        raise ValueError(f"{record.path} does not fit {checkpoint}: {_phrase(error)}.") from error
    _assign(state, network, record.path)
    return network, record


def _find(
    checkpoint: str, choice: str
) -> tuple[dict[str, Tensor], WeightsRecord, RegistryEntry | None]:
    """Find and read the weights of a choice of :func:`load_weights`."""
    entry, path, origin = _choose(checkpoint, choice)
    state, sha256 = _read(path, entry, compare=origin != "file")
    name = path.name if entry is None or origin == "file" else entry.name
    logger.info("weights: %s (%s) %s sha256 %s…", name, origin, path, sha256[:12])
    return state, WeightsRecord(name=name, origin=origin, path=path, sha256=sha256), entry


def _assign(state: Mapping[str, Tensor], network: nn.Module, path: Path) -> None:
    """Load tensors strictly, as float32, and off the ``meta`` device."""
    _, mismatch = find_mismatch(state, network)
    if mismatch:
        raise ValueError(f"{path} does not fit {type(network).__name__}: {mismatch}.")
    loadable = {}
    for key, target in network.state_dict().items():
        dtype = torch.float32 if target.is_floating_point() else target.dtype
        device = "cpu" if target.is_meta else target.device
        # A copy, so that the network does not stay mapped to a file that may be replaced.
        loadable[key] = state[key].to(device, dtype, copy=True)
    network.load_state_dict(loadable, strict=True, assign=True)


def list_weights() -> list[WeightsStatus]:
    """Say for each registry entry which file would be used, without reading its tensors."""
    return [weights_status(entry) for entry in read_registry().values()]


def weights_status(entry: RegistryEntry) -> WeightsStatus:
    """Say which file of a registry entry would be used, without reading its tensors."""
    path, how = entry.find() or (None, "missing")
    licence = entry.sources[0].licence
    if path is not None:
        source = entry.source_of(path.name)
        try:
            licence = source.licence if source else read_metadata(path).get("licence", licence)
        except ValueError:
            how = "damaged"
    url = next((url for source in entry.sources for url in source.urls), None)
    file = entry.sources[0].file
    return WeightsStatus(
        entry.name, entry.feature, licence, entry.citation, url, path, how, file, entry.includes
    )


def verify_weights(names: Iterable[str] | None = None) -> list[WeightsCheck]:
    """Recompute the hashes of the weights that are there and compare each with its network.

    Args:
        names: registry entries; all that are found if None.

    Returns:
        One check per entry.

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
            state, sha256 = _read(path, entry)
            _, mismatch = _compare(state, entry)
            if mismatch:
                raise ValueError(f"{path} does not fit {entry.network}: {mismatch}.")
        except ValueError as error:
            checks.append(WeightsCheck(entry.name, path, False, str(error)))
        else:
            checks.append(WeightsCheck(entry.name, path, True, f"{how}, sha256 {sha256}"))
    return checks


def import_weights(
    file: Path | str, name: str | None = None, destination: Path | str | None = None
) -> WeightsRecord:
    """Check an authors' file, convert it to safetensors and record its hash.

    Args:
        file: the authors' file, or a safetensors file that was imported elsewhere.
        name: the registry entry; if None it is recognised by hash, by file name, or by keys and
            shapes where they fit one entry only.
        destination: folder to write to; ``$FEATPLUG_WEIGHTS`` or the user cache if None.

    Returns:
        What was written; a file that already holds these weights is left as it is.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: the file is damaged, refused, fits no entry or several; or the folder cannot
            be written to.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"There is no weights file {file}.")
    metadata: dict[str, str] = {}
    imported: dict[str, Tensor] | None = None
    if file.suffix == ".safetensors":
        imported, metadata = _read_recorded(file)
    if metadata.keys() & {"system", "config"}:
        raise ValueError(
            f"{file} was trained with featplug, so it is no authors' file; use it as it is, with "
            f"--weights {file}."
        )
    hashes = hash_source(file, metadata)
    source_file = metadata.get("source_file", file.name)
    candidates = recognise(file, source_file, hashes, name or metadata.get("entry"))
    entry, state = _fitting(file, imported, candidates)
    check_known(file, entry, source_file, hashes)
    source = entry.source_of(source_file, hashes) or entry.sources[0]

    folder = search_folders()[0] if destination is None else Path(destination)
    target = folder / f"{entry.name}.safetensors"
    recorded = {
        "format": "pt",
        "entry": entry.name,
        "source_file": source_file,
        "source_sha256": hashes.sha256,
        "tensors_sha256": state_sha256(state),
        "licence": source.licence,
        "featplug": __version__,
    }
    if not _holds(target, recorded):
        _make_folder(folder)
        # Copies, because safetensors refuses tensors that share memory.
        copies = {key: tensor.contiguous().clone() for key, tensor in state.items()}
        if target.is_file():
            logger.warning("%s held other weights, which are replaced", target)
        write_whole(target, lambda part: save_readable(copies, part, recorded))
        logger.info("imported %s as %s", file, entry.name)
        if source.agrees(hashes) is not True:
            logger.warning(
                "that %s are the authors' %s is taken on trust: the registry has no hash of it",
                file,
                entry.name,
            )
    return WeightsRecord(entry.name, "official", target, hashes.sha256)


def fetch_weights(name: str, progress: bool = False) -> Path:
    """Download an entry's file from the first mirror that has it, and import it.

    Args:
        name: the registry entry.
        progress: show a bar with rate and time left.

    Returns:
        The safetensors file; nothing is downloaded where it is there and whole.

    Raises:
        ValueError: the entry has no URL, or no mirror gave a file that fits; a download that was
            cut short goes on where it stopped when this is called again.
    """
    entry = get_entry(name)
    mirrors = [(source, url) for source in entry.sources for url in source.urls]
    if not mirrors:
        raise ValueError(f"{name} cannot be fetched: the registry has no URL for it.")
    folder = search_folders()[0]
    target = folder / f"{entry.name}.safetensors"
    if target.is_file():
        try:
            _read(target, entry)
        except ValueError as error:
            logger.warning("%s It is fetched again.", error)
        else:
            return target
    downloads = folder / "downloads" / entry.name
    _make_folder(downloads)
    failures = []
    for source, url in mirrors:
        file = downloads / source.file
        try:
            download(url, file, source.sha256, progress)
            import_weights(file, entry.name, folder)
        except ValueError as error:
            failures.append(str(error).rstrip("."))
        else:
            shutil.rmtree(downloads)
            return target
        finally:
            file.unlink(missing_ok=True)
    raise ValueError(
        f"{name} could not be fetched: {'; '.join(failures)}; try again later, or get "
        f"{entry.sources[0].file} elsewhere and run `featplug weights import` on it."
    )


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
    raise FileNotFoundError(wanted[0].explain_missing())


def _read(
    path: Path, entry: RegistryEntry | None, compare: bool = True
) -> tuple[dict[str, Tensor], str]:
    """Read a weights file of any kind and check every hash that is known of it.

    Args:
        path: a safetensors file, or an authors' file.
        entry: the registry entry whose converter reads an authors' file.
        compare: compare with the registry's hash too; False for a file of the user's own.

    Returns:
        The state dict and the hash for :attr:`WeightsRecord.sha256`.
    """
    known = entry if compare else None
    if path.suffix == ".safetensors":
        state, metadata = _read_recorded(path)
        hashes = hash_source(path, metadata)
        check_known(path, known, metadata.get("source_file", path.name), hashes)
        return state, hashes.sha256
    if entry is None:
        raise ValueError(f"{path} is of an unknown kind; give a .safetensors file.")
    hashes = hash_source(path, {})
    refuse_exchanged(path, entries_named(path.name), hashes)
    check_known(path, known, path.name, hashes)
    return entry.convert(path), hashes.sha256


def _read_recorded(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file and compare its tensors with the hash in its metadata, if any."""
    state, metadata = read_safetensors(path)
    recorded = metadata.get("tensors_sha256")
    if recorded and recorded != state_sha256(state):
        raise ValueError(
            f"{path} is damaged: its tensors do not have the hash that was recorded when it was "
            "written; fetch or import it again."
        )
    return state, metadata


def _fitting(
    file: Path, imported: dict[str, Tensor] | None, candidates: list[RegistryEntry]
) -> tuple[RegistryEntry, dict[str, Tensor]]:
    """Choose the one candidate whose network takes the file's tensors."""
    fitting: list[tuple[RegistryEntry, dict[str, Tensor]]] = []
    problems: list[tuple[float, str]] = []
    for entry in candidates:
        try:
            state = entry.convert(file) if imported is None else imported
        except ValueError as error:
            problems.append((float("inf"), str(error)))
            continue
        count, mismatch = _compare(state, entry)
        if mismatch:
            name = entry.network.rpartition(":")[2]
            problems.append((count, f"{file} does not fit {name}: {mismatch}."))
        else:
            fitting.append((entry, state))
    if not fitting:
        if len(candidates) > 1 and min(problems)[0] == float("inf"):
            # Every converter refused it; only what is wrong with the file itself says more.
            telling = [text for _, text in problems if re.search(_FILE_ITSELF, text)]
            raise ValueError(
                telling[0]
                if telling
                else f"{file} is no weights file of any system here; give the authors' .pth, .pt, "
                ".tar, .pb, .index or .mat file, or a .safetensors file."
            )
        raise ValueError(min(problems)[1])
    if len(fitting) > 1:
        names = ", ".join(entry.name for entry, _ in fitting)
        raise ValueError(f"{file} fits {names} alike; say with --name which of them it is.")
    return fitting[0]


def _compare(state: Mapping[str, Tensor], entry: RegistryEntry) -> tuple[float, str]:
    """Compare tensors with an entry's network; see :func:`find_mismatch`."""
    try:
        network = entry.build_network(state)
    except ValueError as error:
        return float("inf"), _phrase(error)
    return find_mismatch(state, network)


def _phrase(error: ValueError) -> str:
    return str(error).rstrip(".")


def _holds(target: Path, recorded: Mapping[str, str]) -> bool:
    """Whether an imported file is whole and holds these very weights."""
    if not target.is_file():
        return False
    try:
        _, metadata = _read_recorded(target)
    except ValueError:
        return False
    return all(metadata.get(key) == recorded[key] for key in ("source_sha256", "tensors_sha256"))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be made ({error.strerror}); set {FOLDER_VARIABLE} to a folder that "
            "you may write to."
        ) from error
