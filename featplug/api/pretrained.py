"""Features as files: the conf and the weights of a feature, in a folder or in one file.

A folder, or a repository of the Hugging Face Hub, has ``featplug.json``, the conf in hloc's form,
and next to it the weights that the conf names. A single safetensors file has the conf in its
metadata. Such files come from others: nothing in them is run, and no class is imported by name.
"""

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, TypedDict

from featplug.api import Feature, load
from featplug.base import Extractor
from featplug.io.files import write_whole, write_whole_text
from featplug.io.typed_json import as_type, read_json
from featplug.methods import Conf, feature_conf, features, matchers, pair_matchers
from featplug.methods.method_names import path_word
from featplug.utils.errors import described
from featplug.weights.checkpoints import read_metadata, save_readable, state_sha256
from featplug.weights.loading import read_checkpoint

CONF_FILE = "featplug.json"
CONF_KEY = "featplug_conf"
"""Key of the conf in the metadata of a safetensors file."""
_SUFFIX = ".safetensors"
_HUB = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


class _Model(TypedDict):
    name: str


class _StoredConf(TypedDict):
    model: Annotated[dict[str, Any], _Model]


def from_pretrained(source: str | Path, **options: Any) -> Feature:
    """Load a feature by name, or with its conf and weights from files.

    Args:
        source: a name as :func:`featplug.load` takes it; a folder or file that
            :meth:`featplug.Feature.save_pretrained` wrote; the weights of a training run; or
            ``hf://OWNER/REPOSITORY``, ``hf://OWNER/REPOSITORY@REVISION`` of the Hugging Face Hub.
        options: as of :func:`featplug.load`.

    Raises:
        FileNotFoundError: no such file exists.
        ValueError: no such name or repository exists, or the files do not fit.
    """
    text = str(source)
    if text.startswith("hf://"):
        return load(_read_folder(_download(text), text), **options)
    if isinstance(source, str) and source in features:
        return load(source, **options)
    path = Path(source).expanduser()
    if path.is_dir():
        return load(_read_folder(path, text), **options)
    if path.is_file() and path.suffix == _SUFFIX:
        return load(_read_file(path), **options)
    if isinstance(source, Path) or path.suffix == _SUFFIX or text.startswith((".", "/", "~")):
        raise FileNotFoundError(f"{source}: no such folder or {_SUFFIX} file; check the path.")
    return load(text, **options)


def save_pretrained(feature: Feature, path: Path) -> None:
    """Write what :func:`from_pretrained` reads; see :meth:`featplug.Feature.save_pretrained`."""
    path = Path(path)
    conf = deepcopy(feature.conf)
    _check_names(conf, path)
    weights = dict(_weights(conf["model"], feature.extractor))
    found = {metadata["source_sha256"] for _, metadata in weights.values()}
    for record in feature.extractor.weights_records:
        if record.sha256 not in found:
            raise FileNotFoundError(
                f"{record.path}, the weights of {feature.name}, has changed or is gone since it "
                "was loaded; load the feature again."
            )
    if path.suffix != _SUFFIX:
        for file, (state, metadata) in weights.items():
            _write_weights(path / file, state, metadata)
        write_whole_text(path / CONF_FILE, json.dumps(conf, indent=2) + "\n")
        return
    if len(weights) != 1:
        raise ValueError(
            f"{path} takes one network, and {feature.name} has {len(weights)}; give a folder."
        )
    [(state, metadata)] = weights.values()
    del conf["model"]["weights"]
    _write_weights(path, state, metadata | {CONF_KEY: json.dumps(conf)})


def _write_weights(path: Path, state: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    copies = {key: tensor.contiguous().clone() for key, tensor in state.items()}
    write_whole(path, lambda part: save_readable(copies, part, metadata))


def _weights(
    model: Conf, extractor: Extractor, prefix: str = ""
) -> Iterator[tuple[str, tuple[Mapping[str, Any], dict[str, str]]]]:
    """Yield the files of the weights, which the conf gets, each with tensors and metadata."""
    used = {record.sha256 for record in extractor.weights_records}
    for key in [key for key in extractor.conf if key.endswith("checkpoint")]:
        option = key.replace("checkpoint", "weights")
        if extractor.conf[key] is None:
            continue
        try:
            state, record = read_checkpoint(extractor.conf[key], extractor.conf[option])
        except FileNotFoundError:
            continue
        if record.sha256 not in used:
            continue  # another network's file includes it
        recorded = read_metadata(record.path) if record.path.suffix == _SUFFIX else {}
        own = {
            "format": "pt",
            "source_file": recorded.get("source_file", record.path.name),
            "source_sha256": record.sha256,
            "tensors_sha256": state_sha256(state),
        }
        kept = {key: recorded[key] for key in ("licence", "network") if key in recorded}
        model[key], model[option] = extractor.conf[key], f"{prefix}{option}{_SUFFIX}"
        yield model[option], (state, kept | own)
    detector = getattr(extractor, "detector", None)
    if isinstance(detector, Extractor):
        described_model = model.setdefault("detector", dict(extractor.conf["detector"]))
        yield from _weights(described_model, detector, f"{prefix}detector_")


def _read_folder(folder: Path, source: str) -> Conf:
    """Return the conf of a folder, with the paths of its weights."""
    path = folder / CONF_FILE
    if path.is_file():
        return _usable(read_json(path), path, folder)
    files = sorted(folder.glob(f"*{_SUFFIX}"))
    if len(files) == 1:
        return _read_file(files[0])
    raise ValueError(
        f"{source} has no {CONF_FILE} and {len(files)} {_SUFFIX} files; give a folder that "
        f"save_pretrained wrote, or load(NAME, weights=FILE)."
    )


def _read_file(path: Path) -> Conf:
    """Return the conf of a single file of weights, with its path."""
    metadata = read_metadata(path)
    conf_files = [path.with_suffix(".json"), path.with_name(CONF_FILE)]
    if CONF_KEY in metadata:
        try:
            stored = json.loads(metadata[CONF_KEY])
        except (ValueError, RecursionError):
            raise ValueError(f"{path}: {CONF_KEY} in its metadata is no JSON text.") from None
        conf = _usable(stored, path, path.parent)
    elif conf_file := next((file for file in conf_files if file.is_file()), None):
        conf = _usable(read_json(conf_file), conf_file, path.parent)
    elif metadata.get("system") in features:  # written by a training run
        conf = feature_conf(metadata["system"])
    else:
        raise ValueError(
            f"{path} has no conf of featplug, in its metadata or next to it; name the feature: "
            f"featplug.load(NAME, weights={path.name!r})."
        )
    conf["model"] = {**conf["model"], "weights": str(path)}
    return conf


def _usable(stored: object, path: Path, folder: Path) -> Conf:
    """Return a conf that was read from a file, with the paths of weights in its folder.

    Raises:
        ValueError: it is no conf, or names something that it must not.
    """
    conf: Conf = {**as_type(stored, _StoredConf, path)}
    _check_names(conf, path)
    conf["model"] = dict(conf["model"])
    conf["output"] = f"{features.output}-{path_word(path.parent / path.stem)}"
    _find_weights(conf["model"], path, folder)
    return conf


def _find_weights(model: Conf, path: Path, folder: Path) -> None:
    for key, value in model.items():
        if key.endswith("weights") and isinstance(value, str) and value.endswith(_SUFFIX):
            if Path(value).name != value:
                raise ValueError(f"{path}: {key} must be a file next to it, not {value!r}.")
            model[key] = str(folder / value)
    if isinstance(model.get("detector"), dict):
        model["detector"] = dict(model["detector"])
        _find_weights(model["detector"], path, folder)


def _check_names(conf: Mapping[str, Any], path: Path) -> None:
    """Check that a conf names methods that are registered, as files must not choose classes."""
    model = conf["model"]
    while isinstance(model, Mapping):
        if model.get("name") not in features.classes:
            raise ValueError(
                f"{path}: the method {model.get('name')!r} is not registered, and a file imports "
                "none; install the package that has it, or load a class of your own by "
                "featplug.load."
            )
        model = model.get("detector")
    for key in ("matcher", "two_view_matcher"):
        if conf.get(key) is not None and not _is_registered(conf[key]):
            raise ValueError(f"{path}: {key} {conf[key]!r} is no registered matcher; correct it.")


def _is_registered(matcher: object) -> bool:
    """Return whether a matcher is one of a table or of a family, whether or not that has it."""
    if not isinstance(matcher, str) or ":" in matcher:
        return False
    tables = (matchers, pair_matchers)
    prefix, slash, _ = matcher.partition("/")
    return any(matcher in table or (slash and prefix in table.prefixes) for table in tables)


def _download(url: str) -> Path:
    """Fetch a repository of the Hugging Face Hub, or find it in its cache; return the folder."""
    parts = _HUB.fullmatch(url)
    if parts is None:
        raise ValueError(
            f"{url} is no repository; write hf://OWNER/NAME or hf://OWNER/NAME@BRANCH."
        )
    try:
        from huggingface_hub import snapshot_download  # type: ignore[import-not-found]
    except ImportError:
        raise ValueError(
            f"{url} needs huggingface-hub; run `pip install featplug[hub]`, or give a folder with "
            "the repository's files."
        ) from None
    try:
        return Path(
            snapshot_download(
                parts[1], revision=parts[2], allow_patterns=[CONF_FILE, f"*{_SUFFIX}"]
            )
        )
    except Exception as error:  # of requests, of the hub, of the disk
        raise ValueError(
            f"{url} cannot be fetched: {described(error)}; check name and connection, or give a "
            "folder with the repository's files."
        ) from error
