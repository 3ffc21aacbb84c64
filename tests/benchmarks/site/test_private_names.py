"""What only a machine knows leaves its records, and nothing else does."""

from __future__ import annotations

import getpass

import pytest

from benchmarks.site.private_names import distinct_names, personal_words, without_folders


@pytest.mark.parametrize(
    ("text", "shortened"),
    [
        ("/home/anna/data/oxford", "oxford"),
        ("/home/anna maria/x y/my.py:F+lightglue", "my.py:F+lightglue"),
        ("sift=/home/anna/f.h5", "sift=f.h5"),
        ("--outputs=/home/anna/o", "--outputs=o"),
        ("cannot read '/home/anna/i.png' (/tmp/a)", "cannot read 'i.png' (a)"),
        ("file:///home/anna/x", "x"),
        ("PATH=/home/a/b:/home/c/d", "PATH=b:d"),
        (r"C:\Users\Anna\x.h5", "x.h5"),
        ("n=C:/Users/Anna/x", "n=x"),
        (r"\\server\anna\x", "x"),
        ("~/data/x", "x"),
        ("~anna/data/x", "x"),
        ("../../anna/x", "x"),
        ("/scene", "scene"),
    ],
)
def test_paths_become_the_names_of_their_files(text: str, shortened: str) -> None:
    assert without_folders(text) == shortened


@pytest.mark.parametrize(
    "text",
    [
        "590 / 120",
        "and/or a/b",
        "https://example.org/a/b",
        "outputs/peers",
        "img1.png and a/img2.png",
        "1/2",
        "</b>",
        "aliked-n16+lightglue",
        "hloc/superpoint_max",
        "ratio 0.8",
    ],
)
def test_what_is_no_path_stays(text: str) -> None:
    assert without_folders(text) == text


def test_folders_with_spaces_go_from_messages_where_another_text_shows_them() -> None:
    values = {
        "path": "/home/Anna Maria/data/oxford",
        "reason": "/home/Anna Maria/data/oxford/img1.png is cut; see /home/Anna Maria/log, data/x.",
        "number": 3,
        "list": [None, True, "a/data/b"],
    }
    assert without_folders(values) == {
        "path": "oxford",
        "reason": "oxford/img1.png is cut; see log, data/x.",
        "number": 3,
        "list": [None, True, "a/data/b"],
    }


def test_methods_of_files_of_one_name_stay_apart() -> None:
    names = distinct_names(["/a/f.py:F", "/b/f.py:F", "sift", "sift"])
    assert names == {"/a/f.py:F": "f.py:F", "/b/f.py:F": "f.py:F (2)", "sift": "sift"}


def test_names_of_this_machine_are_found_as_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "annamaria")
    record = {"rows": [{"feature": "annamarias"}, {"feature": "by annamaria's method"}]}
    assert personal_words(record) == {"annamaria": "rows[1].feature"}
    monkeypatch.setattr(getpass, "getuser", lambda: "root")
    assert personal_words({"a": "root"}) == {}
