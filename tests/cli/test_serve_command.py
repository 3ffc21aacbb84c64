"""``featplug serve``: a process that answers until it is told to end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from featplug.cli.serve_command import serve
from featplug.localization.queries import read_queries
from tests.conftest import REPOSITORY


def test_it_answers_until_a_signal(localized_room: Path, aachen_room: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "featplug", "serve", "--model", localized_room, "--port", "0",
         "--device", "cpu", "--max-upload-mib", "8"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]
        assert url.startswith("http://127.0.0.1:")
        name = read_queries(aachen_room / "queries" / "*_with_intrinsics.txt")[0].name
        photograph = aachen_room / "images_upright" / name
        request = urllib.request.Request(
            f"{url}/localize", photograph.read_bytes(), {"Content-Type": "image/jpeg"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["retrieved"]
        with urllib.request.urlopen(f"{url}/model", timeout=60) as answer:
            assert json.load(answer)["limits"]["max_upload_mib"] == 8
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def test_without_the_extra_the_command_says_so(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    message = refusal(serve, "featplug serve", "--model", tmp_path)
    assert "pip install featplug[serve]" in message


def test_bad_requests_end_the_command(refusal: Callable[..., str], tmp_path: Path) -> None:
    assert str(tmp_path) in refusal(serve, "featplug serve", "--model", tmp_path, "--port", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refusal(serve, "featplug serve", "--model", tmp_path, "--port", port)
    assert f"127.0.0.1:{port}" in message
    assert "--port" in message
    message = refusal(serve, "featplug serve", "--model", tmp_path, "--max-waiting", 0)
    assert "--max-waiting" in message
