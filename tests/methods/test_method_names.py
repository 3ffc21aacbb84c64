"""The grammar of names, and the words that they become in file names."""

from __future__ import annotations

from pathlib import Path

import pytest

from featplug.methods.method_names import (
    MethodName,
    describer_and_detector,
    file_word,
    located,
    option_word,
    parse_method,
    path_word,
)


@pytest.mark.parametrize(
    ("text", "feature", "matcher"),
    [
        ("sift", "sift", None),
        ("sift+NN-mutual", "sift", "NN-mutual"),
        ("colmap/sift+colmap/lightglue", "colmap/sift", "colmap/lightglue"),
        ("lisrd@mtldesc", "lisrd@mtldesc", None),
        ("lisrd@mtldesc+NN-mutual", "lisrd@mtldesc", "NN-mutual"),
        ("lisrd+matcher:mtldesc", "lisrd", "mtldesc"),
        ("a.b:C+d.e:F", "a.b:C", "d.e:F"),
        ("hloc/disk+hloc/disk+lightglue", "hloc/disk", "hloc/disk+lightglue"),
        ("my.py:C+matcher:mine.py:D", "my.py:C", "mine.py:D"),
    ],
)
def test_a_feature_and_its_matcher(text: str, feature: str, matcher: str | None) -> None:
    method = parse_method(text)
    assert method == MethodName(feature, matcher)
    assert parse_method(str(method)) == method


def test_a_feature_after_a_plus_is_rejected_with_its_readings() -> None:
    with pytest.raises(ValueError, match=r"'lisrd\+mtldesc'") as raised:
        parse_method("lisrd+mtldesc")
    for reading in ("lisrd@mtldesc", "lisrd+matcher:mtldesc"):
        assert reading in str(raised.value)
        parse_method(reading)
    with pytest.raises(ValueError, match=r"'lisrd\+d2net'.*write lisrd@d2net"):
        parse_method("lisrd+d2net")
    with pytest.raises(ValueError, match=r"write lisrd@sift\+NN-mutual"):
        parse_method("lisrd+NN-mutual@sift")


@pytest.mark.parametrize("text", ["", "+", "sift+", "+NN-mutual", "sift+matcher:", "a+b+c"])
def test_other_texts_are_no_names(text: str) -> None:
    with pytest.raises(ValueError, match=r"write .*FEATURE\+MATCHER"):
        parse_method(text)


def test_detectors_are_nested_from_the_right() -> None:
    assert describer_and_detector("a@b@c") == ("a", "b@c")
    assert describer_and_detector("a") == ("a", None)
    for text in ("a@", "@b", "a@@b"):
        with pytest.raises(ValueError, match="A@B"):
            describer_and_detector(text)


def test_the_path_of_a_file_may_have_operators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "c++ by me@home"
    folder.mkdir()
    (folder / "mine.py").touch()
    own = f"{folder}/mine.py:Mine"
    assert parse_method(f"{own}+{own}") == MethodName(own, own)
    assert parse_method(f"sift+matcher:{own}") == MethodName("sift", own)
    assert parse_method(f"lisrd@{own}+NN-ratio") == MethodName(f"lisrd@{own}", "NN-ratio")
    assert describer_and_detector(f"lisrd@{own}") == ("lisrd", own)
    assert describer_and_detector(f"{own}@sift") == (own, "sift")
    monkeypatch.chdir(folder)
    assert file_word("mine.py:Mine") == file_word(own)  # one class, wherever it is called from


def test_relative_paths_of_a_name_are_those_of_a_folder(tmp_path: Path) -> None:
    own, odd = "mine.py:Mine", "c++@home/mine.py:Mine"
    (tmp_path / "c++@home").mkdir()
    for path in ("mine.py", "c++@home/mine.py"):
        (tmp_path / path).touch()
    for name in (f"doap@{own}", f"sift+{own}", f"lisrd@{own}+matcher:{odd}", f"{odd}@{odd}+{own}"):
        expected = name.replace(odd, "ODD").replace(own, f"{tmp_path}/{own}")
        assert located(name, tmp_path) == expected.replace("ODD", f"{tmp_path}/{odd}")
    for name in ("lisrd@sift+NN-mutual", f"sift+{tmp_path}/{own}", "package.module:Mine"):
        assert located(name, tmp_path) == name


def test_words_are_different_for_different_names() -> None:
    names = [
        *("sift", "SIFT", "colmap/sift", "colmap:sift", "colmap-sift", "colmap_sift"),
        *("lisrd@mtldesc", "lisrd+mtldesc", "a@b@c", "a@b+c", "a b", "a_b", "a:b.c", "a.b:c"),
        *("colmap~sift", "colmap=sift", "a=b.c", "a~b", "a/b"),
        *("my.py:Corners", "other/my.py:Corners", "my.py:Edges", "é", "x" * 300, "x" * 299),
    ]
    words = [file_word(name) for name in names]
    assert len(set(words)) == len(words)
    for word in words:
        assert not set(word) & set(" /\\:*?\"<>|'\n")
        assert len(word) < 120
    assert file_word("sift") == "sift"
    assert file_word("lisrd@mtldesc") == "lisrd@mtldesc"
    assert file_word("other/my.py:Corners").startswith("my=Corners-")


def test_the_word_of_an_option_has_its_name_and_value() -> None:
    assert option_word("contrast_threshold=0.01") == "contrast_threshold=0.01"
    options = ["a=1", "a=1=2", "a=1~2", "a=1/2", "a=1:2", "a", "a=", 'a="1"', "a='1'"]
    assert len({option_word(text) for text in options}) == len(options)


def test_the_word_of_a_file_has_its_name_and_place(tmp_path: Path) -> None:
    words = {path_word(tmp_path / folder / "my feats.h5") for folder in "ab"}
    assert len(words) == 2
    assert all(word.startswith("my_feats-") for word in words)
