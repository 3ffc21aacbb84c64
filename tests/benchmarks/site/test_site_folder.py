"""A site replaces itself and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.site.site_folder import check_folder, write_site


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "site.json"
    }


def test_pages_of_removed_runs_go_and_files_of_others_stay(tmp_path: Path) -> None:
    site = tmp_path / "site"
    write_site(site, {"index.html": b"1", "runs/a/results.json": b"a", "tables/a.html": b"a"})
    (site / "CNAME").write_bytes(b"mine")
    (site / "runs" / "notes.txt").write_bytes(b"mine")
    write_site(site, {"index.html": b"2", "tables/b.html": b"b"})
    assert contents(site) == {
        **{"CNAME": b"mine", "index.html": b"2", "runs/notes.txt": b"mine", "tables/b.html": b"b"}
    }
    assert not (site / "runs" / "a").exists()
    assert check_folder(site) == ["index.html", "tables/b.html"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"neither empty nor a site.*--output"):
        write_site(tmp_path, {"index.html": b"1"})
    (tmp_path / "site.json").write_text('{"made_by": "another"}')
    with pytest.raises(ValueError, match=r"another program.*--output"):
        write_site(tmp_path, {"index.html": b"1"})
    (tmp_path / "site.json").write_text('{"made_by": "featplug bench site", "files": ["../x"]}')
    with pytest.raises(ValueError, match=r"site\.json.*'\.\./x'"):
        write_site(tmp_path, {"index.html": b"1"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site.json", "thesis.tex"]


def test_a_file_in_the_way_is_not_replaced(tmp_path: Path) -> None:
    site = tmp_path / "site"
    write_site(site, {"index.html": b"1"})
    (site / "methods.html").write_text("mine")
    with pytest.raises(ValueError, match=r"methods\.html.*move it"):
        write_site(site, {"index.html": b"2", "methods.html": b"2"})
    assert contents(site) == {"index.html": b"1", "methods.html": b"mine"}


def test_a_link_does_not_lead_out(tmp_path: Path) -> None:
    site, outside = tmp_path / "site", tmp_path / "outside"
    write_site(site, {"index.html": b"1", "runs/a.json": b"1"})
    outside.mkdir()
    (outside / "a.json").write_bytes(b"mine")
    (site / "runs" / "a.json").unlink()
    (site / "runs").rmdir()
    (site / "runs").symlink_to(outside)
    with pytest.raises(ValueError, match="link"):
        write_site(site, {"index.html": b"2"})
    assert (outside / "a.json").read_bytes() == b"mine"


def test_a_site_that_was_not_finished_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.site import site_folder

    site = tmp_path / "site"
    write_site(site, {"index.html": b"1", "old.html": b"1"})
    write_whole = site_folder.write_whole

    def killed(path: Path, write: object) -> None:
        if path.name == "b.html":
            raise KeyboardInterrupt
        write_whole(path, write)  # type: ignore[arg-type]

    files = {"a.html": b"2", "b.html": b"2", "index.html": b"2"}
    with monkeypatch.context() as patch:
        patch.setattr(site_folder, "write_whole", killed)
        with pytest.raises(KeyboardInterrupt):
            write_site(site, files)
    write_site(site, files)
    assert contents(site) == files
