"""What ``featplug doctor`` finds: versions, devices, abilities, weights, known bad pairings.

pycolmap is asked in a process of its own, because some builds end the process that imports them
next to torch (colmap issue 3477).
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py
import torch

from featplug import __version__
from featplug.utils.parallel import available_cores
from featplug.utils.versions import installed_versions, known_problems
from featplug.weights.loading import list_weights
from featplug.weights.registry import FOLDER_VARIABLE, read_registry, search_folders

LOW_DISK_GIB = 5.0

# AlikedExtractionOptions is bound only where pycolmap was built with ONNX; to create an extractor
# would download its model.
_PROBE = """
import {order}
import json, pathlib, tempfile
import numpy as np
from PIL import Image
print(json.dumps({{
    "CUDA": bool(getattr(pycolmap, "has_cuda", False)),
    "global mapping": hasattr(pycolmap, "global_mapping"),
    "hierarchical mapping": hasattr(pycolmap, "hierarchical_mapping"),
    "ALIKED and LightGlue (ONNX)": hasattr(pycolmap, "AlikedExtractionOptions"),
}}), flush=True)
with tempfile.TemporaryDirectory() as folder:
    images = pathlib.Path(folder) / "images"
    images.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(images / "noise.png")
    database = pathlib.Path(folder) / "database.db"
    pycolmap.extract_features(database, images, device=pycolmap.Device.cpu)
"""


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis."""

    level: Literal["ok", "warn"]
    topic: str
    text: str


def diagnose() -> Iterator[Finding]:
    """Look at this machine and installation; takes a few seconds and writes nothing.

    Yields:
        The findings. None is an error: a bad installation leads to warnings.
    """
    versions = {"featplug": __version__, **installed_versions()}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield Finding("ok", "system", f"Python {platform.python_version()} on {platform.platform()}")
    yield Finding("ok", "versions", f"{listed}, HDF5 {h5py.version.hdf5_version}")
    for text in known_problems(versions, os.environ):
        yield Finding("warn", "versions", text)
    yield from _devices()
    yield from _pycolmap()
    yield from _disk()
    yield from _weights()


def _devices() -> Iterator[Finding]:
    text = f"CPU with {available_cores()} cores"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        text += f" and {memory / 2**30:.1f} GiB of memory"
    yield Finding("ok", "device", text)
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        text = f"cuda:{index} {gpu.name} with {gpu.total_memory / 2**30:.1f} GiB"
        yield Finding("ok", "device", text)
    if torch.backends.mps.is_available():
        yield Finding("ok", "device", "mps (Apple GPU)")
    if shutil.which("nvidia-smi") and not torch.cuda.is_available():
        text = f"this machine has an NVIDIA driver, but torch {torch.__version__} cannot use it."
        yield Finding("warn", "device", text)


def _pycolmap() -> Iterator[Finding]:
    together = _run_probe("torch, pycolmap")
    if together.stdout:
        abilities = json.loads(together.stdout.splitlines()[0])
        text = ", ".join(f"{name}: {'yes' if has else 'no'}" for name, has in abilities.items())
        yield Finding("ok", "pycolmap", text)
    if together.returncode == 0:
        yield Finding("ok", "pycolmap", "works next to torch, imported after it")
        return
    alone = _run_probe("pycolmap")
    if alone.returncode == 0:
        text = (
            "ends the process when torch is imported before it (colmap issue 3477); install "
            "another build of pycolmap or torch, or import pycolmap first."
        )
    else:
        reason = (alone.stderr.strip().splitlines() or [f"exit code {alone.returncode}"])[-1]
        text = f"does not work: {reason}"
    yield Finding("warn", "pycolmap", text)


def _run_probe(order: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _PROBE.format(order=order)]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603


def _disk() -> Iterator[Finding]:
    for label, folder in (("current folder", Path.cwd()), ("weights", search_folders()[0])):
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(existing).free / 2**30
        text = f"{free:.1f} GiB free for the {label} ({folder})"
        if free < LOW_DISK_GIB:
            text += "; D2-Net's features take about 6 MB an image."
        yield Finding("ok" if free >= LOW_DISK_GIB else "warn", "disk", text)


def _weights() -> Iterator[Finding]:
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder and not Path(folder).expanduser().is_dir():
        text = f"{FOLDER_VARIABLE} names {folder}, which is no folder."
        yield Finding("warn", "weights", text)
    registry = read_registry()
    statuses = list_weights()
    for status in statuses:
        if status.path is not None:
            text = f"{status.entry} for {status.feature}: {status.how}, {status.path}"
            yield Finding("warn" if status.how == "damaged" else "ok", "weights", text)
    ready = {s.feature for s in statuses if s.path is not None and registry[s.entry].automatic}
    for feature in dict.fromkeys(status.feature for status in statuses):
        if feature not in ready:
            first = next(s for s in statuses if s.feature == feature)
            yield Finding("warn", "weights", registry[first.entry].explain_missing())
