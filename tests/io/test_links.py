"""Links to files and folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from featplug.io.links import has_only_links, link_files, link_folder


def test_a_link_replaces_a_file_a_folder_and_a_link_and_leaves_what_these_lead_to(
    tmp_path: Path,
) -> None:
    (tmp_path / "sparse" / "0").mkdir(parents=True)
    (tmp_path / "sparse" / "0" / "images.bin").write_text("new")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "images.bin").write_text("old")
    model = tmp_path / "model"
    for kind in ("nothing", "file", "folder", "link", "broken link"):
        if kind == "file":
            model.unlink()
            model.write_text("old")
        elif kind == "folder":
            model.unlink()
            model.mkdir()
            (model / "images.bin").write_text("old")
        elif "link" in kind:
            model.unlink()
            model.symlink_to("elsewhere" if kind == "link" else "nowhere")
        assert link_folder(model, Path("sparse/0")), kind
        assert model.readlink() == Path("sparse/0")
        assert (model / "images.bin").read_text() == "new"
    assert (tmp_path / "elsewhere" / "images.bin").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "model", "sparse"]


def test_where_there_are_no_links_everything_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows for users without the right to make links."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", fail)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_text("mine")
    assert not link_folder(tmp_path / "images", tmp_path)
    assert not link_files(tmp_path / "images", {"a.jpg": tmp_path / "b.jpg"})
    assert not link_files(tmp_path / "new", {"a.jpg": tmp_path / "b.jpg"})
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    assert (tmp_path / "images" / "a.jpg").read_text() == "mine"


def test_a_folder_of_links_is_told_from_one_with_files(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("a")
    names = {"a.jpg": tmp_path / "a.jpg", "day 1/b.jpg": tmp_path / "a.jpg"}
    assert link_files(tmp_path / "images", names)
    assert (tmp_path / "images" / "day 1" / "b.jpg").read_text() == "a"
    assert has_only_links(tmp_path / "images")
    (tmp_path / "images" / "day 1" / "c.jpg").write_text("mine")
    assert not has_only_links(tmp_path / "images")
    assert not has_only_links(tmp_path / "nothing")
    assert not has_only_links(tmp_path / "a.jpg")
