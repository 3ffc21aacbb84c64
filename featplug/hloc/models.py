"""hloc's own confs and models, as ``hloc/NAME`` uses them in our engines.

The classes that wrap them are in :mod:`featplug.extractors.hloc` and :mod:`featplug.matchers.hloc`.
"""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from featplug.hloc.confs import MODEL_PREFIX
from featplug.hloc.registration import import_hloc
from featplug.utils.errors import described
from featplug.utils.suggestions import unknown_name
from featplug.utils.versions import commit_of
from featplug.weights.registry import WeightsRecord

Conf = dict[str, Any]
Kind = Literal["feature", "retrieval", "matcher", "pair matcher"]

_MODULES: dict[Kind, str] = {
    "feature": "extract_features",
    "retrieval": "extract_features",
    "matcher": "match_features",
    "pair matcher": "match_dense",
}
_FAILURES = (ImportError, OSError, RuntimeError, subprocess.SubprocessError)
"""What hloc's models raise where their code or their weights cannot be had."""


def confs(kind: Kind) -> dict[str, Conf]:
    """Return hloc's confs of a kind by name, without those that featplug registered there.

    Raises:
        ValueError: hloc, or what its module needs, is missing.
    """
    try:
        import_hloc()
    except ImportError as error:
        raise ValueError(str(error)) from error
    try:
        module = import_module(f"hloc.{_MODULES[kind]}")
    except ImportError as error:
        raise _not_usable(_MODULES[kind], error) from error
    return {
        name: conf
        for name, conf in module.confs.items()
        if not conf["model"]["name"].startswith(MODEL_PREFIX)
        and (kind == "retrieval") == conf["output"].startswith("global")
    }


def conf(kind: Kind, name: str) -> Conf:
    """Return one of :func:`confs`.

    Raises:
        ValueError: hloc is missing, or has no such conf; lists those that exist.
    """
    known = confs(kind)
    if name not in known:
        raise unknown_name(f"{kind} of hloc", name, known)
    return known[name]


def model_class(package: Literal["extractors", "matchers"], model: str) -> Any:
    """Return the class of one of hloc's models.

    Raises:
        AttributeError: hloc has no model of that name.
        ValueError: hloc, or the code that the model needs, is missing.
    """
    try:
        import_hloc()
        from hloc.utils.base_model import dynamic_load  # type: ignore[import-not-found]

        return dynamic_load(import_module(f"hloc.{package}"), model)
    except ImportError as error:
        if error.name == "hloc":
            raise ValueError(str(error)) from error
        if error.name == f"hloc.{package}.{model}":
            raise AttributeError(f"hloc has no model {model!r}") from error
        raise _not_usable(model, error) from error


def build(
    package: Literal["extractors", "matchers"], model: str, options: Mapping[str, Any]
) -> nn.Module:
    """Build one of hloc's models.

    Raises:
        ValueError: the code or the weights that it needs are missing.
    """
    cls = model_class(package, model)
    try:
        return cls({**options, "name": model}).eval()
    except _FAILURES as error:
        raise _not_usable(model, error) from error


def _not_usable(model: str, error: Exception) -> ValueError:
    """Return the error for a model, or a module, that needs what is not installed."""
    where = Path(import_hloc().__file__ or "").parents[1]
    return ValueError(
        f"hloc's {model} cannot be used: {described(error).rstrip('.')}; install what it "
        f"needs, in a clone by `git -C {where} submodule update --init --recursive`."
    )


def version() -> str:
    """Return hloc's version, and its commit where that is known."""
    hloc = import_hloc()
    commit = commit_of(Path(hloc.__file__ or "").parent) or _installed_commit()
    return f"{hloc.__version__}{f' {commit[:12]}' if commit else ''}"


def _installed_commit() -> str | None:
    """Return the commit that pip installed hloc from."""
    try:
        text = metadata.distribution("hloc").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None
    return json.loads(text or "{}").get("vcs_info", {}).get("commit_id")


def weights_of(model: nn.Module, name: str) -> tuple[WeightsRecord, ...]:
    """Return a record of a model's weights, none for a model without; hloc names no files.

    The hash is that of all tensors with their names.
    """
    tensors = {key: value for key, value in model.state_dict().items() if value.numel()}
    if not tensors:
        return ()
    digest = hashlib.sha256()
    for key, value in sorted(tensors.items()):
        digest.update(key.encode())
        digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
    source = Path(import_module(type(model).__module__).__file__ or "")
    return (WeightsRecord(f"hloc {name}", "hloc", source, digest.hexdigest()),)
