"""Reading weights files of any kind: the one place where their hashes are checked.

An authors' file is recognised by the hashes in the registry, or else by its name. An imported file
records the hashes of the authors' file and of the tensors.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from featplug.io.artifact import file_hash
from featplug.weights.checkpoints import check_head, git_blob_id, read_safetensors, state_sha256
from featplug.weights.registry import Hashes, RegistryEntry, get_entry, read_registry


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

    Raises:
        ValueError: the file is damaged, of another kind, or has another hash than it should.
    """
    known = entry if compare else None
    check_head(path)  # before all of it is hashed
    if path.suffix == ".safetensors":
        state, metadata = read_recorded(path)
        hashes = hash_source(path, metadata)
        check_known(path, known, metadata.get("source_file", path.name), hashes)
        return state, hashes.sha256
    if entry is None:
        raise ValueError(f"{path} is of an unknown kind; give a .safetensors file.")
    hashes = hash_source(path, {})
    _check_not_exchanged(path, _entries_named(path.name), hashes)
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


def hash_source(path: Path, metadata: Mapping[str, str]) -> Hashes:
    """Hash an authors' file, or return what an import has recorded of it."""
    recorded = metadata.get("source_sha256")
    return Hashes(recorded) if recorded else Hashes(file_hash(path), git_blob_id(path))


def check_known(path: Path, entry: RegistryEntry | None, file: str, hashes: Hashes) -> None:
    """Check that the authors' file ``file``, or one made from it, has the registry's hash.

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


def recognise(
    file: Path, source_file: str, hashes: Hashes, name: str | None
) -> list[RegistryEntry]:
    """List the entries that a file to import may belong to: one, where name or hash decide.

    ``source_file`` is the authors' file that it was made from, and ``hashes`` are that file's.

    Raises:
        ValueError: the file is another entry's, or the entry does not exist or is not imported.
    """
    official = _official()
    if name is not None:
        entry = get_entry(name)
        if entry not in official:
            raise ValueError(f"{name} is shipped with featplug and is not imported.")
        _check_not_exchanged(file, [entry], hashes)
        return [entry]
    alike = [e for e in official if any(Path(s.file).suffix == file.suffix for s in e.sources)]
    return (_owners(hashes) or _entries_named(source_file))[:1] or alike or official


def _check_not_exchanged(path: Path, claimed: Sequence[RegistryEntry], hashes: Hashes) -> None:
    """Reject a file that is another entry's by its hash: authors and users mix files up."""
    owners = _owners(hashes)
    if not claimed or not owners or any(entry in owners for entry in claimed):
        return
    owner, entry = owners[0], claimed[0]
    needed = entry.source_of(path.name) or entry.sources[0]
    source = owner.source_of(path.name, hashes) or owner.sources[0]
    url = f", or get {needed.file} from {needed.urls[0]}" if needed.urls else ""
    raise ValueError(
        f"{path} holds {owner.name} by its hash, not {entry.name}, for it is a copy of "
        f"{source.file}; run `featplug weights import {path}` to use it as {owner.name}{url}."
    )


def _official() -> list[RegistryEntry]:
    return [entry for entry in read_registry().values() if entry.origin == "official"]


def _entries_named(file: str) -> list[RegistryEntry]:
    return [entry for entry in _official() if entry.source_of(file)]


def _owners(hashes: Hashes) -> list[RegistryEntry]:
    return [entry for entry in _official() if any(s.agrees(hashes) for s in entry.sources)]
