"""Run one matcher of vismatch in the Python environment that has it.

:mod:`featplug.matchers.vismatch` starts this file with another interpreter, so it imports nothing
of featplug. Requests come on the standard input and answers go to the standard output, each as 8
bytes with the length of the .npz file that follows. What vismatch prints goes to the standard error
stream. The process ends with the one that started it.
"""

import ast
import importlib
import importlib.metadata
import importlib.util
import io
import os
import signal
import struct
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

_LENGTH = struct.Struct(">Q")


def model_names() -> list[str]:
    """Return the names of vismatch's matchers, without importing it."""
    found = importlib.util.find_spec("vismatch")
    if found is None or found.origin is None:
        raise ImportError("there is no package vismatch")
    for node in ast.parse(Path(found.origin).read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "available_models":
            return list(ast.literal_eval(node.value))
    raise ImportError(f"{found.origin} has no available_models")


def version() -> str:
    """Return the version of vismatch, without importing it."""
    try:
        return importlib.metadata.version("vismatch")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def match(matcher: Any, request: Any) -> dict[str, Any]:
    """Return the matched points of two images C×H×W, as vismatch has them."""
    import torch

    result = matcher(*(torch.from_numpy(request[key]) for key in ("image0", "image1")))
    confidences = result.get("matched_confidences")
    answer = {f"keypoints{i}": np.asarray(result[f"matched_kpts{i}"], np.float32) for i in (0, 1)}
    if confidences is not None:
        answer["scores"] = np.asarray(confidences, np.float32)
    return answer


def serve(name: str, device: str, options: dict[str, Any]) -> None:
    """Answer requests until the input ends."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the other process, and this with it
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    try:
        matcher = importlib.import_module("vismatch").get_matcher(name, device=device, **options)
    except BaseException as error:
        write(answers, {"error": described(error)})
        return
    write(answers, {})
    while len(head := requests.read(_LENGTH.size)) == _LENGTH.size:
        with np.load(io.BytesIO(requests.read(*_LENGTH.unpack(head)))) as request:
            try:
                answer = match(matcher, request)
            except Exception as error:
                answer = {"error": described(error)}
        write(answers, answer)


def end_with(parent: int) -> None:
    """End this process when the one that started it is gone, also in the middle of a pair."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def described(error: BaseException) -> str:
    """Return an exception in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def write(file: IO[bytes], arrays: dict[str, Any]) -> None:
    """Write one message."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    file.write(_LENGTH.pack(content.tell()) + content.getvalue())
    file.flush()


if __name__ == "__main__":
    here = Path(__file__).resolve().parent  # whose files have names that other packages may have
    sys.path = [path for path in sys.path if Path(path or ".").resolve() != here]
    if sys.argv[1:] == ["--list"]:
        sys.stdout.write("\n".join([version(), *model_names()]))
    else:
        serve(sys.argv[1], sys.argv[2], ast.literal_eval(sys.argv[3]))
