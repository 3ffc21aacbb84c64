"""The list of features: each with its paper, and whether its weights are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from featplug.methods import features, matchers, pair_matchers, retrieval
from featplug.weights.catalogue import ConfStatus, list_confs
from featplug.weights.registry import is_restricted, preferred_entries

PAGE = Path(__file__).resolve().parents[2] / "docs" / "features.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weights folder, and no cache."""
    monkeypatch.setenv("FEATPLUG_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _: str(tmp_path / "cache"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def test_every_conf_is_listed_with_its_paper_and_matcher(folder: Path) -> None:
    confs = list_confs()
    assert [conf.name for conf in confs] == list(features)
    assert all(conf.paper and conf.dimensions and conf.matcher in matchers for conf in confs)
    assert {conf.name.partition("-")[0] for conf in confs if conf.describes} == {
        "lisrd",
        "contextdesc",
        "doap",
        "dog",
    }


def test_one_file_may_include_a_second_network(folder: Path) -> None:
    def conf() -> ConfStatus:
        return next(conf for conf in list_confs() if conf.name == "contextdesc")

    assert conf().is_ready
    assert [status.entry for status in conf().weights.values() if status] == [
        "featplug_contextdesc"
    ]
    # The authors' own wins, and then needs its second file.
    (folder / "contextdesc_pp.tar").write_bytes(b"x")
    assert not conf().is_ready


def test_weights_are_ready_when_all_their_files_are_there(folder: Path) -> None:
    def conf(name: str) -> object:
        return next(conf for conf in list_confs() if conf.name == name)

    assert conf("sift").is_ready
    assert conf("d2net").weights["d2net"].entry == "featplug_d2net"
    (folder / "d2_tf.pth").write_bytes(b"x")
    assert conf("d2net").weights["d2net"].entry == "d2_tf"
    assert conf("d2net").is_ready
    assert not conf("d2net-ots").is_ready

    (folder / "contextdesc_pp_upright.tar").write_bytes(b"x")
    assert not conf("contextdesc-upright").is_ready  # the retrieval network is missing
    (folder / "contextdesc_pp.tar").write_bytes(b"x")
    assert conf("contextdesc-geo").is_ready
    assert not conf("contextdesc").is_ready
    (folder / "retrieval_model.tar").write_bytes(b"x")
    assert conf("contextdesc").is_ready
    assert set(conf("contextdesc").weights) == {"contextdesc", "contextdesc-regional"}
    (folder / "d2_ots.safetensors").write_bytes(b"no tensors")
    assert not conf("d2net-ots").is_ready


def feature_row(name: str) -> str:
    """The line of a feature in the table of docs/features.md, made from the registries."""
    conf = features[name]
    checkpoints = [value for key, value in conf["model"].items() if key.endswith("checkpoint")]
    weights, licences = [], []
    for checkpoint in checkpoints:
        entry = preferred_entries(checkpoint)[0]
        weights.append(f"`{entry.name}`" if entry.origin == "official" else "trained here")
        licence = entry.sources[0].licence
        licences.append(f"*{licence}*" if is_restricted(licence) else licence)
    shown = [", ".join(dict.fromkeys(cells)) or "none needed" for cells in (weights, licences)]
    return f"| `{name}` | {conf['paper']} | {conf['dimensions']} | {shown[0]} | {shown[1]} |"


def test_the_documentation_has_every_feature_with_paper_weights_and_licence() -> None:
    page = PAGE.read_text("utf-8")
    ours = [name for name, conf in features.items() if ":" not in conf["model"]["name"]]
    missing = [row for row in map(feature_row, ours) if row not in page]
    assert not missing, "docs/features.md lacks\n" + "\n".join(missing)
    rows = [
        line.split("`")[1] for line in page.splitlines() if line.count("|") == 6 and "`" in line
    ]
    assert rows == ours


def test_the_documentation_has_every_matcher_and_retrieval_method() -> None:
    page = PAGE.read_text("utf-8")
    for table in (matchers, pair_matchers, retrieval):
        ours = [name for name, conf in table.items() if ":" not in conf["model"]["name"]]
        assert [name for name in ours if f"`{name}`" not in page] == []
