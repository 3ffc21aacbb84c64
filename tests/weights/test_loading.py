from __future__ import annotations

import importlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import portalocker
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from featplug import __version__
from featplug.io.artifact import file_hash
from featplug.io.folder_lock import LOCK
from featplug.networks.d2net import D2Net
from featplug.networks.l2net import DOAP, Layer, l2_net
from featplug.weights import loading as weights
from featplug.weights.checkpoints import git_blob_id
from featplug.weights.importing import fetch_weights, import_weights
from featplug.weights.loading import list_weights, load_weights, verify_weights
from featplug.weights.registry import read_registry
from tests.weights.file_server import FileServer


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)


class Other(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)


REGISTRY = """
[tiny_a]
feature = "tiny"
citation = "A"
network = "tests.weights.test_loading:Tiny"
converter = "featplug.weights.converters.pytorch:d2net"
[[tiny_a.sources]]
file = "a.pth"
urls = [{urls}]
licence = "MIT"
[[tiny_a.sources]]
file = "a_half.pth"
sha256 = "{half_sha256}"
size = {half_size}
licence = "CC BY 4.0"

[tiny_b]
feature = "tiny"
automatic = false
citation = "B"
network = "tests.weights.test_loading:Tiny"
converter = "featplug.weights.converters.pytorch:d2net"
[[tiny_b.sources]]
file = "b.pth"
licence = "unknown"

[other]
feature = "other"
citation = "C"
network = "tests.weights.test_loading:Other"
converter = "featplug.weights.converters.pytorch:d2net"
[[other.sources]]
file = "other.pth"
licence = "MIT"

[tiny_featplug]
feature = "tiny"
origin = "featplug"
citation = "D"
network = "tests.weights.test_loading:Tiny"
converter = "featplug.weights.converters.pytorch:d2net"
[[tiny_featplug.sources]]
file = "tiny_featplug.safetensors"
licence = "Apache-2.0"
"""


def checkpoint(
    path: Path, seed: int = 0, network: type[nn.Module] = Tiny, half: bool = False
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = network().half() if half else network()
    torch.save({"model": model.state_dict()}, path)
    return path


class World:
    """A registry, the two search folders and the authors' files, all in one folder."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shipped, self.folder, self.cache = root / "shipped", root / "env", root / "cache"
        self.a = checkpoint(root / "authors" / "a.pth", seed=1)
        self.b = checkpoint(root / "authors" / "b.pth", seed=2)
        self.half = checkpoint(root / "authors" / "a_half.pth", seed=3, half=True)
        self.shipped.mkdir()
        self.write_registry()
        monkeypatch.setattr("featplug.weights.registry.shipped_folder", lambda: self.shipped)
        monkeypatch.setattr("platformdirs.user_cache_dir", lambda _: str(self.cache))
        monkeypatch.setenv("FEATPLUG_WEIGHTS", str(self.folder))

    def write_registry(self, *urls: str) -> None:
        text = REGISTRY.format(
            urls=", ".join(f'"{url}"' for url in urls),
            half_sha256=file_hash(self.half),
            half_size=self.half.stat().st_size,
        )
        (self.shipped / "registry.toml").write_text(text)

    def know_by_git(self, name: str, path: Path) -> None:
        """Set the git blob id of a file in the source that is first in the entry."""
        registry = self.shipped / "registry.toml"
        source = f"[[{name}.sources]]\n"
        text = registry.read_text()
        assert source in text
        blob = f'git_blob = "{git_blob_id(path)}"\n'
        registry.write_text(text.replace(source, source + blob, 1))

    def ship(self, seed: int) -> Path:
        torch.manual_seed(seed)
        path = self.shipped / "tiny_featplug.safetensors"
        save_file(Tiny().state_dict(), path)
        return path


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def load(choice: str = "auto", feature: str = "tiny") -> tuple[weights.WeightsRecord, nn.Module]:
    with torch.device("meta"):
        network = Tiny()
    return load_weights(feature, choice, network), network


def assert_is_seed(network: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    for key, value in Tiny().state_dict().items():
        torch.testing.assert_close(network.state_dict()[key], value, rtol=0, atol=0)


def test_import_keeps_the_tensors_and_records_where_they_are_from(world: World) -> None:
    record = import_weights(world.half)
    assert record.path == world.folder / "tiny_a.safetensors"
    assert (record.name, record.origin, record.sha256) == (
        "tiny_a", "official", file_hash(world.half),
    )  # fmt: skip
    state = load_file(record.path)
    original = torch.load(world.half, weights_only=True)["model"]
    assert all(torch.equal(state[key], original[key]) for key in original)
    assert state["conv.weight"].dtype == torch.float16
    with safe_open(record.path, "pt") as file:
        metadata = file.metadata()
    assert metadata.pop("tensors_sha256")
    assert metadata == {
        "format": "pt",
        "entry": "tiny_a",
        "source_file": "a_half.pth",
        "source_sha256": record.sha256,
        "licence": "CC BY 4.0",
        "featplug": __version__,
    }
    assert [path.name for path in world.folder.iterdir()] == ["tiny_a.safetensors"]


def test_import_again_changes_nothing_and_another_file_replaces(world: World) -> None:
    first = import_weights(world.a)
    written = first.path.stat().st_mtime_ns
    assert import_weights(world.a) == first
    assert first.path.stat().st_mtime_ns == written
    assert import_weights(world.half).path == first.path
    assert load()[0].sha256 == file_hash(world.half)


def test_import_of_an_imported_file_keeps_its_origin(world: World, tmp_path: Path) -> None:
    record = import_weights(world.b, destination=tmp_path / "elsewhere")
    moved = record.path.rename(tmp_path / "copy.safetensors")
    again = import_weights(moved)
    assert again.path == world.folder / "tiny_b.safetensors"
    assert again.sha256 == file_hash(world.b)


def test_recognised_by_name_given_then_hash_then_file_name_then_shapes(world: World) -> None:
    renamed = shutil.copy(world.half, world.half.with_name("b.pth"))
    assert import_weights(renamed).name == "tiny_a"
    with pytest.raises(ValueError, match=r"b\.pth.*tiny_a.*not tiny_b.*featplug weights import"):
        import_weights(renamed, name="tiny_b")
    checkpoint(world.b, seed=2)
    assert import_weights(world.b).name == "tiny_b"
    assert import_weights(world.b, name="tiny_a").name == "tiny_a"
    unknown = checkpoint(world.b.with_name("unknown.pth"), network=Other)
    assert import_weights(unknown).name == "other"
    ambiguous = checkpoint(world.b.with_name("download.pth"))
    with pytest.raises(ValueError, match=r"download\.pth.*tiny_a, tiny_b.*--name"):
        import_weights(ambiguous)
    with pytest.raises(ValueError, match=r"'c'.*tiny_a, tiny_b, other"):
        import_weights(ambiguous, name="c")
    with pytest.raises(ValueError, match="tiny_featplug"):
        import_weights(ambiguous, name="tiny_featplug")


def test_import_of_a_wrong_file_names_it_and_the_nearest_difference(world: World) -> None:
    state = Tiny().state_dict()
    del state["conv.bias"]
    path = world.a.with_name("wrong.pth")
    torch.save({"model": state}, path)
    with pytest.raises(ValueError, match=r"wrong\.pth.*Tiny.*conv\.bias; give"):
        import_weights(path)
    assert not world.folder.exists()
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        import_weights(world.a.with_name("absent.pth"))


def test_import_of_half_a_known_file_tells_the_sizes(world: World) -> None:
    content = world.half.read_bytes()
    world.half.write_bytes(content[:1000])
    with pytest.raises(ValueError, match=r"a_half\.pth.*download it again"):
        import_weights(world.half)
    shutil.copy(world.half, world.a.with_name("a_half.pth.tmp"))
    world.folder.mkdir()
    shutil.copy(world.half, world.folder)
    with pytest.raises(ValueError, match=rf"1000 of {len(content)} bytes.*download it again"):
        load()
    checkpoint(world.half, seed=9)
    with pytest.raises(ValueError, match=r"sha256.*registry.*download it again"):
        import_weights(world.half)


def test_git_blob_id_is_that_of_git(tmp_path: Path) -> None:
    (tmp_path / "hello").write_text("hello\n")
    assert git_blob_id(tmp_path / "hello") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_file_is_recognised_and_checked_by_its_git_blob_id(world: World) -> None:
    world.know_by_git("tiny_b", world.b)
    renamed = shutil.copy(world.b, world.b.with_name("download.pth"))
    assert import_weights(renamed).name == "tiny_b"
    assert load("tiny_b")[0].sha256 == file_hash(world.b)
    assert verify_weights(["tiny_b"])[0].ok
    checkpoint(world.b, seed=9)
    with pytest.raises(ValueError, match=r"b\.pth.*git blob id.*registry.*download it again"):
        import_weights(world.b)
    shutil.copy(world.b, world.folder)
    (world.folder / "tiny_b.safetensors").unlink()
    with pytest.raises(ValueError, match="git blob id"):
        load("tiny_b")
    assert load(str(world.b))[0].origin == "file"


def test_fetched_file_of_another_git_blob_id_is_passed_over(world: World) -> None:
    wrong = checkpoint(world.a.with_name("wrong.pth"), seed=9).read_bytes()
    with FileServer({"/old/a.pth": wrong, "/a.pth": world.a.read_bytes()}) as server:
        world.write_registry(*map(server.url, ("/old/a.pth", "/a.pth")))
        world.know_by_git("tiny_a", world.a)
        fetch_weights("tiny_a")
    assert load()[0].sha256 == file_hash(world.a)


def test_file_under_the_name_of_another_is_refused_everywhere(world: World) -> None:
    world.write_registry("https://example.org/a.pth")
    world.know_by_git("tiny_b", world.b)
    world.folder.mkdir()
    exchanged = Path(shutil.copy(world.b, world.folder / "a.pth"))
    message = (
        f"{exchanged} holds tiny_b by its hash, not tiny_a, for it is a copy of b.pth; run "
        f"`featplug weights import {exchanged}` to use it as tiny_b, or get a.pth from "
        "https://example.org/a.pth."
    )

    def refused(function: Callable[..., object], *args: str) -> None:
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            function(*args)
        assert str(caught.value) == message

    refused(load)
    refused(load, str(exchanged))
    refused(import_weights, str(exchanged), "tiny_a")
    assert verify_weights(["tiny_a"])[0].message == message
    assert import_weights(exchanged).name == "tiny_b"
    # Under a name that claims nothing it is a file as any other.
    assert load(shutil.copy(world.b, world.b.with_name("mine.pth")))[0].origin == "file"


def test_import_where_nothing_can_be_written_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(world.a / "folder"))
    with pytest.raises(ValueError, match="set FEATPLUG_WEIGHTS"):
        import_weights(world.a)


def test_load_casts_to_float32_fills_a_meta_network_and_logs_one_line(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    import_weights(world.half)
    with caplog.at_level(logging.INFO, "featplug.weights.loading"):
        record, network = load()
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert {p.device.type for p in network.parameters()} == {"cpu"}
    assert all(p.requires_grad for p in network.parameters())
    assert network.get_buffer("norm.num_batches_tracked").dtype == torch.int64
    original = torch.load(world.half, weights_only=True)["model"]["conv.weight"]
    assert torch.equal(network.get_parameter("conv.weight"), original.float())
    line = f"weights: tiny_a (official) {record.path} sha256 {file_hash(world.half)[:12]}…"
    assert caplog.messages[-1] == line


def test_search_order(world: World) -> None:
    shipped = world.ship(seed=5)
    record, network = load()
    assert (record.origin, record.path, record.sha256) == (
        "featplug", shipped, file_hash(shipped),
    )  # fmt: skip
    assert_is_seed(network, 5)
    in_cache = checkpoint(world.cache / "weights" / "a.pth", seed=6)
    record, network = load()
    assert (record.name, record.origin, record.path) == ("tiny_a", "official", in_cache)
    assert record.sha256 == file_hash(in_cache)
    assert_is_seed(network, 6)
    assert load("featplug")[0].path == shipped
    checkpoint(world.folder / "a.pth", seed=7)
    assert_is_seed(load()[1], 7)
    import_weights(world.a)
    assert_is_seed(load("official")[1], 1)


def test_entry_that_is_not_automatic_is_loaded_by_name_only(world: World) -> None:
    import_weights(world.b)
    with pytest.raises(FileNotFoundError):
        load()
    record, network = load("tiny_b")
    assert record.name == "tiny_b"
    assert_is_seed(network, 2)
    with pytest.raises(ValueError, match=r"tiny_b.*tiny.*other"):
        load("tiny_b", feature="other")


def test_path_is_loaded_as_it_is(world: World, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "mine.pth", seed=8)
    record, network = load(str(path))
    assert (record.name, record.origin, record.path) == ("mine.pth", "file", path)
    assert record.sha256 == file_hash(path)
    assert_is_seed(network, 8)
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    record, network = load(str(tmp_path / "mine.safetensors"), feature="unregistered")
    assert record.sha256 == file_hash(tmp_path / "mine.safetensors")
    assert_is_seed(network, 8)
    with pytest.raises(ValueError, match=r"mine\.pth.*\.safetensors"):
        load(str(path), feature="unregistered")


def test_missing_weights_give_url_and_command(world: World) -> None:
    world.write_registry("https://example.org/a.pth")
    with pytest.raises(FileNotFoundError) as caught:
        load()
    assert str(caught.value) == (
        f"The weights tiny_a of tiny are not in {world.folder} nor in {world.cache / 'weights'}; "
        "run `featplug weights fetch tiny_a`, or get a.pth from https://example.org/a.pth and "
        "run `featplug weights import a.pth`."
    )
    with pytest.raises(FileNotFoundError, match=r"tiny_featplug\.safetensors.*install"):
        load("featplug")
    with pytest.raises(FileNotFoundError, match=r"featplug.*other.*path of a file"):
        load("featplug", feature="other")
    with pytest.raises(FileNotFoundError, match=r"x\.pth.*tiny_a, tiny_b"):
        load("x.pth")


def test_wrong_file_is_refused_and_the_network_left_alone(world: World, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "other.pth", network=Other)
    network = Tiny()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(
        ValueError,
        match=r"other\.pth does not fit Tiny: missing conv\.weight, conv\.bias and 5 more; "
        r"unexpected head\.weight, head\.bias; give",
    ):
        load_weights("tiny", str(path), network)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_damaged_import_is_found_when_loaded(world: World) -> None:
    path = import_weights(world.a).path
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"tiny_a\.safetensors.*import it again"):
        load()
    (check,) = verify_weights()
    assert (check.entry, check.ok) == ("tiny_a", False)
    assert "is damaged" in check.message
    assert import_weights(world.a).path == path
    assert verify_weights()[0].ok


def test_list_tells_what_is_there_under_which_licence(world: World) -> None:
    world.ship(seed=5)
    import_weights(world.half)
    checkpoint(world.cache / "weights" / "b.pth")
    listed = {s.entry: (s.how, s.licence, s.path and s.path.name) for s in list_weights()}
    assert listed == {
        "tiny_a": ("imported", "CC BY 4.0", "tiny_a.safetensors"),
        "tiny_b": ("authors' file", "unknown", "b.pth"),
        "other": ("missing", "MIT", None),
        "tiny_featplug": ("shipped", "Apache-2.0", "tiny_featplug.safetensors"),
    }
    (world.folder / "tiny_a.safetensors").write_bytes(b"")
    assert list_weights()[0].how == "damaged"


def test_verify_looks_at_hashes_and_networks(world: World) -> None:
    record = import_weights(world.a)
    checkpoint(world.cache / "weights" / "other.pth")
    checks = {check.entry: check for check in verify_weights()}
    assert list(checks) == ["tiny_a", "other"]
    assert checks["tiny_a"].ok
    assert record.sha256 in checks["tiny_a"].message
    assert not checks["other"].ok
    assert "other.pth does not fit" in checks["other"].message
    (missing,) = verify_weights(["tiny_b"])
    assert not missing.ok
    assert "featplug weights import b.pth" in missing.message
    with pytest.raises(ValueError, match="'c'"):
        verify_weights(["c"])


def test_fetch_tries_mirrors_until_one_has_a_file_that_fits(world: World) -> None:
    page = b"<html>This domain is for sale</html>"
    with FileServer({"/page/a.pth": page, "/a.pth": world.a.read_bytes()}) as server:
        world.write_registry(*map(server.url, ("/gone/a.pth", "/page/a.pth", "/a.pth")))
        path = fetch_weights("tiny_a")
        num_requests = len(server.answers)
        assert fetch_weights("tiny_a") == path
        assert len(server.answers) == num_requests
    assert path == world.folder / "tiny_a.safetensors"
    assert not list(world.folder.glob("downloads/**/*"))
    assert load()[0].sha256 == file_hash(world.a)


def test_fetch_goes_on_after_a_break(world: World) -> None:
    state = Tiny().state_dict()
    state["padding"] = torch.zeros(200_000)
    torch.save({"model": Tiny().state_dict(), "optimizer": state}, world.a)
    with FileServer({"/a.pth": world.a.read_bytes()}, stop_after=600_000) as server:
        world.write_registry(server.url("/a.pth"))
        with pytest.raises(ValueError, match=r"tiny_a.*http.*try again"):
            fetch_weights("tiny_a")
        server.stop_after = None
        fetch_weights("tiny_a")
        status, sent = server.answers[-1]
        assert status == 206
        assert sent < 400_000
    assert verify_weights()[0].ok


def test_fetch_says_why_each_mirror_failed(world: World) -> None:
    with FileServer({"/page/a.pth": b"<html></html>"}) as server:
        world.write_registry(server.url("/a.pth"), server.url("/page/a.pth"))
        with pytest.raises(
            ValueError, match=r"404 Not Found; .*sends a web page.*; try again later"
        ):
            fetch_weights("tiny_a")
    assert not list(world.folder.rglob("*.*"))
    with pytest.raises(ValueError, match=r"tiny_b.*URL"):
        fetch_weights("tiny_b")


def test_the_hash_of_a_first_download_holds_for_later_ones(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with FileServer({"/a.pth": world.a.read_bytes()}) as server:
        world.write_registry(server.url("/a.pth"))
        path = fetch_weights("tiny_a")
        record = path.with_name("tiny_a.downloads.json")
        (said,) = (message for message in caplog.messages if str(record) in message)
        assert file_hash(world.a)[:12] in said
        assert json.loads(record.read_text())["a.pth"]["sha256"] == file_hash(world.a)
        caplog.clear()

        path.unlink()
        assert fetch_weights("tiny_a") == path
        assert not any(str(record) in message for message in caplog.messages)

        path.unlink()
        server.files["/a.pth"] = world.b.read_bytes()
        with pytest.raises(ValueError, match=rf"/a\.pth now has sha256.*delete {record}"):
            fetch_weights("tiny_a")
        assert not path.exists()

        for damaged in ("", "[1]", '{"a.pth": 1}', '{"a.pth": {"sha256": 1}}'):
            record.write_text(damaged)
            with pytest.raises(ValueError, match=rf"{record} is not a record.*delete it"):
                fetch_weights("tiny_a")
        record.unlink()
        fetch_weights("tiny_a")
    assert load()[0].sha256 == file_hash(world.b)


def test_a_hash_that_the_registry_has_is_not_recorded(world: World) -> None:
    world.know_by_git("tiny_a", world.a)
    with FileServer({"/a.pth": world.a.read_bytes()}) as server:
        registry = world.shipped / "registry.toml"
        text = registry.read_text().replace("urls = []", f'urls = ["{server.url("/a.pth")}"]')
        registry.write_text(text)
        path = fetch_weights("tiny_a")
    assert not path.with_name("tiny_a.downloads.json").exists()


def test_a_download_is_not_larger_than_the_network_allows(world: World) -> None:
    entry = read_registry()["tiny_a"]
    with FileServer({"/a.pth": b""}, headers={"Content-Length": str(2**27)}) as server:
        world.write_registry(server.url("/a.pth"))
        with pytest.raises(ValueError, match=r"/a\.pth: the server sends 134 MB.*at most 67 MB"):
            fetch_weights("tiny_a")
    assert 2**26 < entry.max_bytes < 2**27


def test_https_comes_first_and_http_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def fail(url: str, *_: object) -> None:
        tried.append(url)
        raise ValueError(f"{url} did not answer.")

    monkeypatch.setattr("featplug.weights.importing.download", fail)
    world.write_registry("http://a.org/a.pth", "https://a.org/a.pth")
    with pytest.raises(ValueError, match="tiny_a could not be fetched"):
        fetch_weights("tiny_a")
    assert tried == ["https://a.org/a.pth", "http://a.org/a.pth"]
    assert any("trying http://a.org/a.pth" in message for message in caplog.messages)
    caplog.clear()
    world.write_registry("http://a.org/a.pth")
    with pytest.raises(ValueError, match="tiny_a could not be fetched"):
        fetch_weights("tiny_a")
    assert any("trying http://a.org/a.pth" in message for message in caplog.messages)


def test_two_processes_do_not_fetch_one_file_at_once(world: World) -> None:
    world.write_registry("http://127.0.0.1:9/a.pth")
    folder = world.folder / "downloads" / "tiny_a"
    folder.mkdir(parents=True)
    with (folder / LOCK).open("w") as file:
        portalocker.lock(file, portalocker.LOCK_EX)
        with pytest.raises(ValueError, match=r"tiny_a is in use by another process; wait"):
            fetch_weights("tiny_a")


def test_official_addresses_are_encrypted_where_any_is() -> None:
    for entry in read_registry().values():
        for source in entry.sources:
            plain = [url for url in source.urls if url.startswith("http://")]
            others = [url for url in source.urls if url.startswith("https://")]
            twins = [url.replace("http://", "https://", 1) for url in plain]
            assert not plain or others == twins, entry.name
        assert all(s.size is None or s.size <= entry.max_bytes for s in entry.sources)


def doap_state(num_outputs: int, has_transformer: bool) -> dict[str, torch.Tensor]:
    localisation = [Layer("conv", (1, 6), (42, 42))] if has_transformer else []
    return DOAP(l2_net(num_outputs), localisation, 42 if has_transformer else 32).state_dict()


def test_a_network_of_another_kind_than_its_entry_asks_for_is_refused() -> None:
    registry = read_registry()
    state = doap_state(num_outputs=256, has_transformer=False)
    registry["doap_liberty_256b"].build_network(state)
    with pytest.raises(ValueError, match=r"num_outputs.*256.*128"):
        registry["doap_liberty"].build_network(state)
    with pytest.raises(ValueError, match=r"has_transformer.*False.*True"):
        registry["doap_liberty_st_256b"].build_network(state)


def test_every_entry_of_the_registry_can_be_used(tmp_path: Path) -> None:
    for entry in read_registry().values():
        module, _, name = entry.network.partition(":")
        is_saved = entry.converter == "featplug.weights.converters.pytorch:d2net"
        if entry.requires:
            state = doap_state(**entry.requires)
        else:
            with torch.device("cpu" if is_saved else "meta"):
                network = getattr(importlib.import_module(module), name)(**entry.arguments)
                state = network.state_dict()
        assert entry.build_network(state).state_dict().keys() == state.keys() != set()
        assert entry.citation
        assert all(source.licence for source in entry.sources)
        if is_saved:
            torch.save({"model": state}, tmp_path / "file.pth")
            assert entry.convert(tmp_path / "file.pth").keys() == state.keys()


def test_imagenet_trunk_is_imported_and_loaded_into_d2net(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = shared / "weights" / "vgg16_imagenet_d2net_fp16.pth"
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path))
    record = import_weights(file)
    assert record.path == tmp_path / "d2_ots.safetensors"
    assert record.sha256.startswith("61eb6a87d796")
    with torch.device("meta"):
        network = D2Net()
    assert load_weights("d2net-ots", "auto", network) == record
    original = torch.load(file, weights_only=True)["model"]
    for key, value in network.state_dict().items():
        assert torch.equal(value, original[key].float())
    (check,) = verify_weights(["d2_ots"])
    assert check.ok
    status = next(status for status in list_weights() if status.entry == "d2_ots")
    assert "CC BY 4.0" in status.licence


def test_a_file_of_no_system_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path))
    (tmp_path / "notes.txt").write_text("not weights")
    with pytest.raises(
        ValueError, match=r"notes\.txt is not a weights file of any known system; give"
    ):
        import_weights(tmp_path / "notes.txt")


def test_trust_and_replacement_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path / "kept"))
    for value in (1.0, 2.0):
        state = {k: torch.full_like(v, value) for k, v in D2Net().state_dict().items()}
        torch.save({"model": state}, tmp_path / "mine.pth")
        import_weights(tmp_path / "mine.pth", "d2_tf")
    assert "registry has no hash of d2_tf" in caplog.text
    assert caplog.text.count("held other weights, which are replaced") == 1
    assert (tmp_path / "kept" / "d2_tf.safetensors").stat().st_mode & 0o777 == 0o644


def test_a_licence_that_restricts_use_is_named_before_use(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    import_weights(world.b)
    import_weights(world.a)
    load()
    assert not any("the licence:" in message for message in caplog.messages)
    load("tiny_b")
    assert any("tiny_b" in message and "unknown" in message for message in caplog.messages)


class Deriving(nn.Module):
    """A network that computes a tensor that its authors' files lack, and keeps one to itself."""

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.register_buffer("grid", torch.arange(size).float())
        self.own = torch.ones(size)


def test_tensors_that_a_network_computes_itself_need_not_be_in_the_file(world: World) -> None:
    registry = world.shipped / "registry.toml"
    name = "tests.weights.test_loading:Deriving"
    text = registry.read_text().replace(
        'network = "tests.weights.test_loading:Tiny"',
        f'network = "{name}"\narguments = {{ size = 3 }}\nderived = ["grid"]',
        1,
    )
    registry.write_text(text)
    state = Deriving().state_dict()
    del state["grid"]
    torch.save({"model": state}, world.a)
    import_weights(world.a, "tiny_a")
    assert verify_weights(["tiny_a"])[0].ok
    torch.manual_seed(3)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    network, _ = weights.load_network("tiny", "tiny_a", Deriving, size=5)
    assert torch.equal(torch.rand(1), drawn)
    assert network.grid.tolist() == [0, 1, 2, 3, 4]
    assert network.own.tolist() == [1] * 5
    assert torch.equal(network.conv.weight, state["conv.weight"])
    del state["conv.bias"]
    torch.save({"model": state}, world.a)
    with pytest.raises(ValueError, match=r"a\.pth.*missing conv\.bias; give"):
        import_weights(world.a, "tiny_a")
