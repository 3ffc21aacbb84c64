"""The output folder of a pipeline: named after its options, and never that of other images."""

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from featplug.io.artifact import Provenance, file_hash, value_hash
from featplug.io.results import write_results
from featplug.io.run_folder import RECORD, run_folder
from featplug.io.typed_json import as_type, read_json
from featplug.methods.method_names import file_word, option_word, path_word
from featplug.utils.parallel import NUM_READERS, map_ahead

_WITHOUT_EFFECT = {
    "outputs",
    "feature_dir",
    "device",
    "overwrite",
    "memory_gib",
    "num_workers",
    "hloc_logs",
    "export",
}
"""Options that do not change the results."""
_WITHOUT_WORDS = {
    *_WITHOUT_EFFECT,
    *("feature", "features"),  # these have their places in the name
    *("reference", "ground_truth"),  # what the same results are compared with
}
"""Options that the words in the name of a folder leave out."""
_PLACES = {"images", "video", "dataset", "model", "queries"}
"""Files and folders that the data, at the start of the name, are named after."""
_WORDS = {
    "matcher": file_word,
    "retrieval": file_word,
    "option": option_word,
    "matcher-option": option_word,
}
"""Options to how their values, names of methods or options of theirs, become words."""
_MAX_LENGTH = 120
_FILE = re.compile(r"\.[a-z]\w*$")

logger = logging.getLogger(__name__)


class _RecordedData(TypedDict):
    images: NotRequired[str]
    dataset: NotRequired[str]
    hashes: NotRequired[dict[str, str]]
    """Name of each image to its hash."""


class _Record(TypedDict):
    pipeline: NotRequired[str]
    benchmark: NotRequired[str]
    data: NotRequired[Annotated[dict[str, Any], _RecordedData]]
    options: NotRequired[dict[str, Any]]


def folder_name(data: str, feature: str, settings: Sequence[str]) -> str:
    """Return the name of the output folder of a run: DATA-FEATURE, and settings of its own.

    Args:
        data: name of the data.
        feature: a word of :mod:`featplug.methods.method_names`.
        settings: words of :func:`changed_settings`.
    """
    name = "-".join([data, feature, *settings])
    return name if len(name) <= _MAX_LENGTH else f"{name[:_MAX_LENGTH]}-{value_hash(name)[:8]}"


def changed_settings(options: Any, **defaults: object) -> list[str]:
    """Return the options that change the results, where they are not the default, as words.

    Args:
        options: a dataclass, whose fields may be dataclasses of options.
        defaults: defaults that are not those of the fields.
    """
    words: list[str] = []
    for entry in fields(options):
        value = getattr(options, entry.name)
        default = entry.default
        if entry.default_factory is not MISSING:
            default = entry.default_factory()
        default = defaults.get(entry.name, default)
        if is_dataclass(value):
            words += changed_settings(value, **defaults)
        elif isinstance(value, Path) and entry.name in _PLACES:
            continue
        elif entry.name not in _WITHOUT_WORDS and value not in (None, default):
            words.append(_word(entry.name, value))
    return words


def _word(name: str, value: object) -> str:
    """Return an option as a word: its value, with its name where the value does not explain it."""
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return name if value else f"no-{name}"
    if isinstance(value, tuple):  # of options NAME=VALUE, or of files
        return "-".join(_word(name, each) for each in value)
    if isinstance(value, str) and name in _WORDS:
        return _WORDS[name](value)
    if isinstance(value, Path) or (isinstance(value, str) and _FILE.search(value)):
        value = path_word(Path(value))
    return _plain(value if isinstance(value, str) else f"{name}-{value}")


def _plain(text: str) -> str:
    return re.sub(r"[^\w.,+@-]+", "_", text)


@dataclass(frozen=True)
class SceneImages:
    """The images of a run."""

    place: Path
    """Folder that the user gave."""
    folder: Path
    """Folder that the names are relative to."""
    names: Sequence[str]
    paths: Mapping[str, Path] = field(default_factory=dict)
    """Files of images that are elsewhere, by their names."""

    def hashes(self) -> dict[str, str]:
        """Return the hash of each image but those that cannot be read, which is found later."""

        def hash_of(name: str) -> str | None:
            try:
                return file_hash(self.paths.get(name, self.folder / name))
            except (OSError, ValueError):
                return None

        hashes = map_ahead(hash_of, self.names, NUM_READERS)
        hashed = zip(self.names, hashes, strict=True)
        return {name: digest for name, digest in hashed if digest is not None}


@contextmanager
def output_folder(
    folder: Path, pipeline: str, images: SceneImages, kept: Collection[str] = ()
) -> Iterator[Path]:
    """Lock an output folder for a run, and return its working folder; see :func:`run_folder`.

    The images are recorded in the folder, which may have an earlier run of them, also if some were
    added, removed or changed. If their folder was moved, most must be the same.

    Raises:
        ValueError: the folder is in use, or has a run of other images or of another command.
    """
    data: _RecordedData = {"images": str(images.place.resolve()), "hashes": images.hashes()}
    with run_folder(folder, kept) as working:
        known = _images_of_run(folder, pipeline, data)
        data["hashes"] = known | data["hashes"]
        write_results(folder / RECORD, {"pipeline": pipeline, "data": data})
        yield working


def _images_of_run(folder: Path, pipeline: str, data: _RecordedData) -> dict[str, str]:
    """Return the hashes of the images of earlier runs; raise ValueError if they are others."""
    reject_other_command(folder, pipeline)
    record = _read(folder / RECORD) or _read(folder / "results.json")
    known = record.get("data", {})
    place, hashes = known.get("images") or known.get("dataset"), known.get("hashes", {})
    num_equal = len(hashes.items() & data["hashes"].items())
    num_comparable = min(len(hashes), len(data["hashes"]))
    if place == data["images"]:
        if num_comparable and not num_equal:
            raise ValueError(
                f"{folder} holds a run of images of {place} that are no longer there; choose "
                "another folder by --outputs."
            )
    elif place is not None and num_equal <= num_comparable / 2:
        raise ValueError(
            f"{folder} holds a run of the images of {place}, not of {data['images']}; choose "
            "another folder by --outputs."
        )
    return hashes


def reject_other_command(folder: Path, command: str) -> None:
    """Raise ValueError if a folder has a run of another pipeline or benchmark."""
    for name in (RECORD, "results.json"):
        record = _read(folder / name)
        other = record.get("pipeline") or record.get("benchmark")
        if other not in (None, command):
            raise ValueError(
                f"{folder} holds a run of {other}; choose another folder by --outputs."
            )


def announce_replacement(folder: Path, options: Mapping[str, Any]) -> None:
    """Log in one line how the run whose results are to be replaced had other options.

    Args:
        folder: the output folder.
        options: options of this run, as JSON stores them.
    """
    before = _read(folder / "results.json").get("options")
    if before is None:
        return
    runs = (Provenance("run", _with_effect(each)) for each in (before, options))
    difference = next(runs).difference(next(runs))
    if difference is not None:
        logger.warning("%s %s; its results are replaced when this run is done.", folder, difference)


def _with_effect(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _with_effect(value) if isinstance(value, dict) else value
        for key, value in options.items()
        if key not in _WITHOUT_EFFECT
    }


def _read(path: Path) -> _Record:
    """Read a record; one that is missing or damaged has nothing."""
    try:
        return as_type(read_json(path), _Record, path)
    except (OSError, ValueError):
        return {}
