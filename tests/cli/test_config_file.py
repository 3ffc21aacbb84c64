"""Options survive the way through a TOML file, and what does not fit is named."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import tyro
from hypothesis import given
from hypothesis import strategies as st

from featplug.cli.config_file import from_table, read_config, to_table, write_config
from tests.cli.conftest import load_commands


@dataclass(frozen=True)
class Camera:
    """Options with a common start."""

    mode: Literal["auto", "single"] = "auto"
    """Which images share a camera."""
    params: str | None = "10,5,5"
    """Intrinsics."""


@dataclass(frozen=True)
class Extraction:
    """Options without a common start."""

    feature: str = "sift"
    """Name of the feature."""
    max_keypoints: int | None = None
    """Number of keypoints."""


@dataclass(frozen=True)
class Options:
    """Options of all kinds."""

    images: Path
    """Folder."""
    extraction: Annotated[Extraction, tyro.conf.arg(name="")] = field(
        default_factory=lambda: Extraction(feature="doap")
    )
    """Features."""
    camera: Camera = Camera("single")
    """Cameras."""
    scale: float = 1.0
    """Factor."""
    weights: tuple[tuple[str, str], ...] = ()
    """Pairs of names."""
    compare: tuple[Path, int] | None = None
    """Two values of two types."""
    seeds: tuple[int, ...] = (0,)
    """Numbers."""
    overwrite: bool = False
    """Replace files."""


def command(
    options: Annotated[Options, tyro.conf.arg(name="")],
    runs: tyro.conf.Positional[tuple[Path, ...]] = (),
    title: str | None = None,
) -> None:
    """Take options.

    Args:
        options: of all kinds.
        runs: folders.
        title: a name.
    """


_TEXTS = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: text != "None")
_PATHS = st.builds(Path, _TEXTS).filter(lambda path: not path.exists())
_NUMBERS = st.integers(-(2**63), 2**63 - 1)
_OPTIONS = st.builds(
    Options,
    images=_PATHS,
    extraction=st.builds(Extraction, _TEXTS, st.none() | _NUMBERS),
    camera=st.builds(Camera, st.sampled_from(["auto", "single"]), st.none() | _TEXTS),
    scale=st.floats(allow_nan=False),
    weights=st.lists(st.tuples(_TEXTS, _TEXTS)).map(tuple),
    compare=st.none() | st.tuples(_PATHS, _NUMBERS),
    seeds=st.lists(_NUMBERS).map(tuple),
    overwrite=st.booleans(),
)


@given(_OPTIONS, st.lists(_PATHS).map(tuple), st.none() | _TEXTS)
def test_arguments_survive_the_way_through_a_file(
    tmp_path_factory: pytest.TempPathFactory,
    options: Options,
    runs: tuple[Path, ...],
    title: str | None,
) -> None:
    folder = tmp_path_factory.getbasetemp() / "config"
    arguments = {"options": options, "runs": runs, "title": title}
    write_config(folder, "bench x", command, arguments)
    found = read_config(folder / "config.toml", "bench x", command)
    again = replace(options, overwrite=False)  # which would undo what the run left
    assert {"title": None, **found} == {**arguments, "options": again}


def test_a_config_holds_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    write_config(
        tmp_path, "x", command, {"options": Options(Path("photos")), "runs": (), "title": None}
    )
    monkeypatch.chdir("/")
    found = read_config(tmp_path / "config.toml", "x", command)["options"]
    assert found.images == tmp_path / "photos"


def test_keys_are_the_names_of_the_options() -> None:
    table = to_table(command, {"options": Options(Path("a")), "runs": (Path("b"),), "title": None})
    assert table == {
        "images": "a",
        "feature": "doap",
        "camera": {"mode": "single", "params": "10,5,5"},
        "scale": 1.0,
        "weights": [],
        "seeds": [0],
        "overwrite": False,
        "runs": ["b"],
    }


def test_missing_keys_keep_their_defaults() -> None:
    options = from_table(command, {"camera": {"params": "None"}, "scale": 2}, "x")["options"]
    assert options.images is tyro.MISSING
    assert options.extraction == Extraction("doap")
    assert options.camera == Camera("single", None)
    assert isinstance(options.scale, float)


def _without_missing(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_missing(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not tyro.MISSING
    }


def test_the_options_of_all_commands_survive() -> None:
    for name, function in load_commands().items():
        parameters = inspect.signature(function).parameters.values()
        values = {p.name: tyro.MISSING if p.default is p.empty else p.default for p in parameters}
        values |= from_table(function, {}, name)
        table = _without_missing(to_table(function, values))
        found = from_table(function, table, name)
        known = {key: value for key, value in values.items() if value is not tyro.MISSING}
        assert {**known, **found} == known, name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("imags = 'a'", ["imags", "'images'?"]),
        ("[camera]\nmodel = 'a'", ["[camera]", "model", "'mode'?"]),
        ("camera = 'single'", ["camera", "table"]),
        ("[camera]\nmode = 'both'", ["mode", "single", "both"]),
        ("scale = 'big'", ["scale", "float"]),
        ("max_keypoints = true", ["max_keypoints", "int | None"]),
        ("seeds = [1, 'two']", ["seeds", "two"]),
        ("compare = ['a']", ["compare", "Path"]),
        ("images = 3", ["images", "Path"]),
        ("images = ", ["TOML"]),
        ("command = 'sfm'", ["featplug sfm --config"]),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"mine\.toml") as error:
        read_config(path, "bench x", command)
    message = str(error.value)
    assert "\n" not in message
    assert not [word for word in words if word not in message], message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.toml"):
        read_config(tmp_path / "gone.toml", "x", command)
