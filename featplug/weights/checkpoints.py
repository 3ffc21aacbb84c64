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
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from featplug.io.limits import MAX_BYTES, Budget, as_megabytes, open_zip
from featplug.weights.pickle_program import PickleProgram, RejectedError


class _NumberType:
    """Stands in for ``numpy.dtype``, which trusts the sizes in a pickle and then crashes."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not re.fullmatch("b1|[iu][1248]|f[248]", code):
            raise RejectedError(f"needs numpy.dtype({code!r})")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")


def _number(kind: Any, content: Any) -> np.generic:
    """Stand in for ``numpy.core.multiarray.scalar``, for the same reason."""
    is_number = isinstance(kind, _NumberType) and isinstance(content, bytes)
    if not is_number or len(content) != kind.dtype.itemsize:
        raise RejectedError("needs a numpy number of another size than its type's")
    return np.frombuffer(content, kind.dtype)[0]


_ALLOWED_GLOBALS: list[Any] = [
    argparse.Namespace,
    (_NumberType, "numpy.dtype"),
    (_number, "numpy.core.multiarray.scalar"),
    (_number, "numpy._core.multiarray.scalar"),
]
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""How torch.save began a file before PyTorch 1.6; later files are zip archives."""
_LEGACY_PICKLES = 5
"""Magic number, version, system, contents and keys of the storages, which then follow."""
_MAX_PICKLE_STEPS = 100_000
"""Largest number of steps of a plain pickle in which the reason of its rejection is searched."""
_MAX_HEADER_BYTES = 2**24
"""Largest head of a safetensors file; those of the largest networks have 100 KB."""
# All that torch's unpickler raises on a file with flipped or missing bytes.
_DAMAGE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
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
        ValueError: the file is damaged, of another kind or too large.
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


def read_torch(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Read a file of ``torch.save``, in its zip form or the older one, without running code.

    Args:
        path: the file.
        max_bytes: the largest size of the file, and of its tensors in all.

    Raises:
        ValueError: the file is damaged, of another kind, too large, or needs more than dense
            tensors and plain values.
    """
    head = check_head(path, max_bytes)
    is_zip = head.startswith(b"PK")
    if not is_zip and not head.startswith(_LEGACY_MAGIC):
        raise _not_torch(path, head)
    try:
        (_check_archive if is_zip else _check_legacy)(path, max_bytes)
        with torch.serialization.safe_globals(_ALLOWED_GLOBALS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except RejectedError as error:
        raise _rejected(path, str(error)) from error
    except _DAMAGE as error:
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
        raise damaged(path, reason or type(error).__name__) from error


def _rejected(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path} is rejected because it {reason}; only plain values and dense tensors of common "
        "types are read, so that no file can run code: have its tensors alone saved, as float32, "
        "with torch.save(model.state_dict(), ...)."
    )


def damaged(path: Path, reason: str) -> ValueError:
    """Return the error of a file that cannot be read to its end; its reason's first sentence."""
    reason = reason.split(". ")[0].split("\n")[0].rstrip(".")
    return ValueError(f"{path} is damaged or only half downloaded ({reason}); download it again.")


def _open_safetensors(path: Path) -> Any:
    head = check_head(path)
    header_bytes = int.from_bytes(head[:8], "little")
    try:
        if header_bytes > min(_MAX_HEADER_BYTES, path.stat().st_size):
            raise SafetensorError(f"a head of {header_bytes} bytes is announced")
        return safe_open(path, "pt")
    except (SafetensorError, MemoryError) as error:
        raise ValueError(
            f"{path} is not a complete safetensors file ({error}); fetch or import it again."
        ) from error


def check_head(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the first bytes of a file that is not empty, too large or a saved web page.

    Raises:
        ValueError: it is one of these.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise ValueError(
            f"{path} has {as_megabytes(size)}, but its weights have at most "
            f"{as_megabytes(max_bytes)}; give the authors' file."
        )
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise ValueError(f"{path} is empty; download it again.")
    if is_web_page(head):
        raise ValueError(
            f"{path} is a web page, not a checkpoint; download the file that it links to."
        )
    return head


def is_web_page(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of HTML or XML."""
    text = head.removeprefix(b"\xef\xbb\xbf")
    return re.match(rb"\s*<(!doctype|!--|html|\?xml|head|body|script)", text, re.I) is not None


def _not_torch(path: Path, head: bytes) -> ValueError:
    """Return the error of a file that torch.save did not write: a plain pickle, or other data."""
    strings: list[str] = []
    try:
        content = path.read_bytes() if head[0] == 128 else b""
        for opcode, argument, _ in islice(pickletools.genops(content), _MAX_PICKLE_STEPS):
            if opcode.name in ("GLOBAL", "STACK_GLOBAL"):
                name = str(argument).split() if opcode.name == "GLOBAL" else strings[-2:]
                return _rejected(path, f"is a plain pickle that needs {'.'.join(name)}")
            if isinstance(argument, str):
                strings.append(argument)
    except ValueError:
        return ValueError(f"{path} is not a PyTorch checkpoint.")
    return _rejected(path, "is a plain pickle")


def _check_archive(path: Path, max_bytes: int) -> None:
    """Check what torch.load takes on trust in a zip file: kind, checksums, sizes of all tensors."""
    with open_zip(path, max_bytes) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if any(name.endswith("/constants.pkl") for name in members):
            raise RejectedError("is a TorchScript archive")
        for member in members.values():
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise ValueError(f"{member.filename} is compressed, which torch.save never does")
        if mismatch := archive.testzip():
            raise ValueError(f"the checksum of {mismatch} does not match")
        folder = next(iter(members), "").partition("/")[0]
        program = PickleProgram(Budget(max_bytes))
        with archive.open(f"{folder}/data.pkl") as file:
            program.follow(file)
    for storage in program.storages.values():
        present = members[f"{folder}/data/{storage.key}"].file_size
        if storage.num_bytes != present:
            raise ValueError(f"a storage of {storage.num_bytes} bytes has {present}")


def _check_legacy(path: Path, max_bytes: int) -> None:
    """Check the same in a file in the older form, which has no checksums."""
    program = PickleProgram(Budget(max_bytes))
    with path.open("rb") as file:
        for _ in range(_LEGACY_PICKLES):
            program.follow(file)
        present = path.stat().st_size - file.tell()
    announced = sum(8 + storage.num_bytes for storage in program.storages.values())
    if announced != present:
        raise ValueError(f"storages of {announced} bytes have {present}")


def misfit(path: Path, network: str, mismatch: str) -> ValueError:
    """Return the error of a whole file whose tensors are not those of a network."""
    return ValueError(
        f"{path} does not fit {network}: {mismatch.rstrip('.')}; give a file of its weights, or "
        "download this one again."
    )


def max_file_bytes(network: nn.Module) -> int:
    """Return the largest size of a file of a network's weights, and of what it unpacks to.

    A file may also hold an optimiser's state, or the weights once more in another format.
    """
    return 2**26 + 6 * sum(tensor.nbytes for tensor in network.state_dict().values())


def find_mismatch(state: Mapping[str, Tensor], network: nn.Module) -> tuple[int, str]:
    """Compare a state dict with a network on any device, ``meta`` too.

    Returns:
        The number of tensors that are missing, unexpected, of another shape or kind or not finite,
        and the difference in words, empty if they fit.
    """
    targets = network.state_dict()
    missing = [key for key in targets if key not in state]
    unexpected = [key for key in state if key not in targets]
    different = [
        f"{key} is {_describe(state[key])} and not {_describe(target)}"
        for key, target in targets.items()
        if key in state and _describe(state[key]) != _describe(target)
    ]
    different += [
        f"{key} has values that are not finite"
        for key, value in state.items()
        if key in targets and not _is_finite(value)
    ]
    parts = [
        f"{label}{', '.join(found[:2])}{f' and {len(found) - 2} more' if len(found) > 2 else ''}"
        for label, found in (("missing ", missing), ("unexpected ", unexpected), ("", different))
        if found
    ]
    return len(missing) + len(unexpected) + len(different), "; ".join(parts)


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    if tensor.itemsize == 1:
        tensor = tensor.float()  # few functions take float8
    # Both are NaN if any value is; twenty times faster than isfinite().all().
    return all(bool(extreme.isfinite()) for extreme in tensor.aminmax())


def _describe(tensor: Tensor) -> str:
    shape = "×".join(map(str, tensor.shape)) or "a scalar"
    return shape if tensor.is_floating_point() else f"{shape} of {tensor.dtype}"
