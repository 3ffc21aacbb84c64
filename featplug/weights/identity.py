"""Which of the authors' files a weights file is, by its hashes or else by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from featplug.weights.checkpoints import file_sha256, git_blob_id
from featplug.weights.registry import Hashes, RegistryEntry, get_entry, read_registry


def hash_source(path: Path, metadata: Mapping[str, str]) -> Hashes:
    """Hash an authors' file, or give what an import has recorded of it."""
    recorded = metadata.get("source_sha256")
    return Hashes(recorded) if recorded else Hashes(file_sha256(path), git_blob_id(path))


def check_known(path: Path, entry: RegistryEntry | None, file: str, hashes: Hashes) -> None:
    """Refuse a file that bears a known name but not the hash that the registry has for it.

    Args:
        path: the file.
        entry: what it is of, if known.
        file: name of the authors' file that it is or was converted from.
        hashes: of that file.

    Raises:
        ValueError: it is damaged, only half downloaded, or another version.
    """
    source = entry.source_of(file, hashes) if entry else None
    if source is None or source.agrees(hashes) is not False:
        return
    size = path.stat().st_size
    if path.name == source.file and source.size is not None and size < source.size:
        raise ValueError(
            f"{path} is only half downloaded ({size} of {source.size} bytes); download it again."
        )
    kind, known, found = "sha256", source.sha256, hashes.sha256
    if hashes.git_blob and source.git_blob not in (None, hashes.git_blob):
        kind, known, found = "the git blob id", source.git_blob, hashes.git_blob
    raise ValueError(
        f"{path} has {kind} {found[:12]}… and not the {str(known)[:12]}… that the registry has for "
        f"{source.file}; download it again."
    )


def entries_named(file: str) -> list[RegistryEntry]:
    """List the official entries of which a file has this name."""
    return [entry for entry in _official() if entry.source_of(file)]


def refuse_exchanged(path: Path, claimed: Sequence[RegistryEntry], hashes: Hashes) -> None:
    """Refuse a file that is another entry's by its hash; authors and users mix files up.

    Args:
        path: the file.
        claimed: what it is by its name, or is said to be; nothing is refused if empty.
        hashes: of the file.

    Raises:
        ValueError: it is a copy of another file; says which, and how to use it.
    """
    owners = _owners(hashes)
    if not claimed or not owners or any(entry in owners for entry in claimed):
        return
    owner, entry = owners[0], claimed[0]
    wanted = entry.source_of(path.name) or entry.sources[0]
    source = owner.source_of(path.name, hashes) or owner.sources[0]
    url = f", or get {wanted.file} from {wanted.urls[0]}" if wanted.urls else ""
    raise ValueError(
        f"{path} holds {owner.name} by its hash, not {entry.name}, for it is a copy of "
        f"{source.file}; run `featplug weights import {path}` to use it as {owner.name}{url}."
    )


def recognise(
    file: Path, source_file: str, hashes: Hashes, name: str | None
) -> list[RegistryEntry]:
    """List the entries that a file to import may belong to: one, where name or hash tell.

    Args:
        file: the file.
        source_file: name of the authors' file that it is or was converted from.
        hashes: of that file.
        name: the entry that the user says it is of.

    Raises:
        ValueError: it is not what the user says, or there is no such entry to import.
    """
    official = _official()
    if name is not None:
        entry = get_entry(name)
        if entry not in official:
            raise ValueError(f"{name} is shipped with featplug and is not imported.")
        refuse_exchanged(file, [entry], hashes)
        return [entry]
    alike = [e for e in official if any(Path(s.file).suffix == file.suffix for s in e.sources)]
    return (_owners(hashes) or entries_named(source_file))[:1] or alike or official


def _owners(hashes: Hashes) -> list[RegistryEntry]:
    """List the official entries of which a file has these hashes."""
    return [entry for entry in _official() if any(s.agrees(hashes) for s in entry.sources)]


def _official() -> list[RegistryEntry]:
    return [entry for entry in read_registry().values() if entry.origin == "official"]
