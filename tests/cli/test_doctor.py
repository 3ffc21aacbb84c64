from __future__ import annotations

import subprocess
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pycolmap
import pytest
import torch

from featplug import __version__
from featplug.cli import doctor
from featplug.cli.doctor import diagnose


def texts(topic: str, level: str | None = None) -> str:
    findings = [f for f in diagnose() if f.topic == topic and level in (None, f.level)]
    return "\n".join(finding.text for finding in findings)


@pytest.fixture
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_pycolmap", lambda: [])


def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _: str(tmp_path))
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    findings = list(diagnose())
    lines = {f"{finding.topic}: {finding.text}" for finding in findings}
    assert any(
        f"featplug {__version__}" in line
        and f"torch {metadata.version('torch')}" in line
        and f"pycolmap {pycolmap.__version__}" in line
        and "HDF5 " in line
        for line in lines
    )
    assert any(line.startswith("device: CPU with ") for line in lines)
    cuda = "yes" if pycolmap.has_cuda else "no"
    assert any(f"CUDA: {cuda}, global mapping: " in line for line in lines)
    assert "pycolmap: works next to torch, imported after it" in lines
    assert any(f"({tmp_path})" in line for line in lines)
    warned = [finding.text for finding in findings if finding.level == "warn"]
    assert any("featplug weights fetch d2_ots`" in text for text in warned)


@pytest.mark.parametrize(
    ("codes", "stderr", "expected"),
    [
        ([-6, 0], "free(): invalid pointer", "ends the process when torch is imported before it"),
        ([-6, -6], "", "does not work: exit code -6"),
        ([1, 1], "Traceback\nModuleNotFoundError: No module", "does not work: ModuleNotFoundError"),
    ],
)
def test_pycolmap_that_crashes_is_told_and_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, codes: list[int], stderr: str, expected: str
) -> None:
    remaining = iter(codes)
    monkeypatch.setattr(
        doctor.subprocess,
        "run",
        lambda command, **_: subprocess.CompletedProcess(command, next(remaining), "", stderr),
    )
    (text,) = texts("pycolmap", "warn").splitlines()
    assert text.startswith(expected)


@pytest.mark.usefixtures("no_probe")
def test_low_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(int(1.5 * 2**30)))
    assert f"1.5 GiB free for the current folder ({Path.cwd()})" in texts("disk", "warn")


@pytest.mark.usefixtures("no_probe")
def test_weights_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _: str(tmp_path))
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path / "absent"))
    assert f"names {tmp_path / 'absent'}, which is no folder" in texts("weights", "warn")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "d2_tf.pth").write_bytes(b"x")
    (tmp_path / "weights" / "d2_ots.safetensors").write_bytes(b"x")
    assert "d2_tf for d2net: authors' file" in texts("weights", "ok")
    assert "fetch d2_tf`" not in texts("weights", "warn")
    assert "d2_ots for d2net-ots: damaged" in texts("weights", "warn")


@pytest.mark.usefixtures("no_probe")
def test_gpu_that_torch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert f"torch {torch.__version__} cannot use it" in texts("device", "warn")
