"""Checkpoint files: read without running code, converted, compared with a network.

A PyTorch checkpoint is a pickle, and a pickle can call any function. Files are therefore read with
``weights_only=True``, which builds tensors and plain values only. Two things that training scripts
commonly leave in a checkpoint are also allowed: ``argparse.Namespace`` and numpy numbers.
"""

import argparse
import hashlib
import pickle
import pickletools
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


class _RejectedError(Exception):
    """A pickle needs something that is not allowed; the message names it."""


class _NumberType:
    """Stands in for ``numpy.dtype``, which trusts the sizes in a pickle and then crashes."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not re.fullmatch("b1|[iu][1248]|f[248]", code):
            raise _RejectedError(f"numpy.dtype({code!r})")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")


def _number(kind: Any, content: Any) -> np.generic:
    """Stand in for ``numpy.core.multiarray.scalar``, for the same reason."""
    is_number = isinstance(kind, _NumberType) and isinstance(content, bytes)
    if not is_number or len(content) != kind.dtype.itemsize:
        raise _RejectedError("a numpy number of another size than its type's")
    return np.frombuffer(content, kind.dtype)[0]


_ALLOWED_GLOBALS: list[Any] = [
    argparse.Namespace,
    (_NumberType, "numpy.dtype"),
    (_number, "numpy.core.multiarray.scalar"),
    (_number, "numpy._core.multiarray.scalar"),
]
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""How torch.save began a file before PyTorch 1.6; later files are zip archives."""
# All that the unpicklers of torch and zipfile raise on a file with flipped or missing bytes.
_DAMAGE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zlib.error,
)


def git_blob_id(path: Path) -> str:
    """Compute git's SHA-1 of the content of a file, as 40 hexadecimal digits."""
    with path.open("rb") as file:
        # An identity that others published, not a defence.
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 of a state dict: names, types, shapes and values, in order of names.

    The hash of a safetensors file would not do, as the order of its metadata is not fixed.
    """
    digest = hashlib.sha256()
    for key, tensor in sorted(state.items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_readable(
    state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write contiguous tensors, which share no memory, to a safetensors file that others may read.

    safetensors itself makes the file readable for its owner only.
    """
    save_file(dict(state), path, dict(metadata or {}))
    path.chmod(0o644)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    Raises:
        ValueError: the file is damaged or of another kind.
    """
    with _open_safetensors(path) as file:
        return {key: file.get_tensor(key) for key in sorted(file.keys())}, file.metadata() or {}


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file without its tensors.

    Raises:
        ValueError: the file is damaged or of another kind.
    """
    with _open_safetensors(path) as file:
        return file.metadata() or {}


def read_torch(path: Path) -> Any:
    """Read a file of ``torch.save``, in its zip form or the older one, without running code.

    Raises:
        ValueError: the file is damaged, of another kind, or needs more than tensors and values.
    """
    head = reject_pages(path)
    is_zip = head.startswith(b"PK")
    if not is_zip and not head.startswith(_LEGACY_MAGIC):
        raise _not_torch(path, head)
    if is_zip:
        _check_archive(path)
    try:
        with torch.serialization.safe_globals(_ALLOWED_GLOBALS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except _RejectedError as error:
        raise _rejected(path, f"needs {error}") from error
    except _DAMAGE as error:
        needed = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and needed:
            raise _rejected(path, f"needs {needed[1]}") from error
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
        raise damaged(path, reason or type(error).__name__) from error


def _rejected(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path} is rejected because it {reason}, which could run code; "
        "have its tensors alone saved with torch.save(model.state_dict(), ...)."
    )


def damaged(path: Path, reason: str) -> ValueError:
    """Return the error of a file that cannot be read to its end; its reason's first sentence."""
    reason = reason.split(". ")[0].split("\n")[0].rstrip(".")
    return ValueError(f"{path} is damaged or only half downloaded ({reason}); download it again.")


def _open_safetensors(path: Path) -> Any:
    reject_pages(path)
    try:
        return safe_open(path, "pt")
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a complete safetensors file ({error}); fetch or import it again."
        ) from error


def reject_pages(path: Path) -> bytes:
    """Raise ``ValueError`` for an empty file and a saved web page; return the first bytes."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise ValueError(f"{path} is empty; download it again.")
    if re.match(rb"\s*<(!doctype|html|\?xml|head)", head, re.IGNORECASE):
        raise ValueError(
            f"{path} is a web page, not a checkpoint; download the file that it links to."
        )
    return head


def _not_torch(path: Path, head: bytes) -> ValueError:
    """Return the error of a file that torch.save did not write: a plain pickle, or other data."""
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(path.read_bytes() if head[0] == 128 else b""):
            if opcode.name in ("GLOBAL", "STACK_GLOBAL"):
                name = str(argument).split() if opcode.name == "GLOBAL" else strings[-2:]
                return _rejected(path, f"is a plain pickle that needs {'.'.join(name)}")
            if isinstance(argument, str):
                strings.append(argument)
    except ValueError:
        return ValueError(f"{path} is not a PyTorch checkpoint.")
    return _rejected(path, "is a plain pickle")


def _check_archive(path: Path) -> None:
    """Check the kind and the checksums of a zip file, which torch.load does not."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            mismatch = archive.testzip()
    except _DAMAGE as error:
        raise damaged(path, str(error)) from error
    if mismatch:
        raise damaged(path, f"the checksum of {mismatch} does not match")
    if any(name.endswith("/constants.pkl") for name in names):
        raise _rejected(path, "is a TorchScript archive")


def find_mismatch(state: Mapping[str, Tensor], network: nn.Module) -> tuple[int, str]:
    """Compare a state dict with a network on any device, ``meta`` too.

    Returns:
        The number of tensors that are missing, unexpected or of another shape or kind, and the
        difference in words, empty if they fit.
    """
    targets = network.state_dict()
    missing = [key for key in targets if key not in state]
    unexpected = [key for key in state if key not in targets]
    different = [
        f"{key} is {_describe(state[key])} and not {_describe(target)}"
        for key, target in targets.items()
        if key in state and _describe(state[key]) != _describe(target)
    ]
    parts = [
        f"{label}{', '.join(found[:2])}{f' and {len(found) - 2} more' if len(found) > 2 else ''}"
        for label, found in (("missing ", missing), ("unexpected ", unexpected), ("", different))
        if found
    ]
    return len(missing) + len(unexpected) + len(different), "; ".join(parts)


def _describe(tensor: Tensor) -> str:
    shape = "×".join(map(str, tensor.shape)) or "a scalar"
    return shape if tensor.is_floating_point() else f"{shape} of {tensor.dtype}"
