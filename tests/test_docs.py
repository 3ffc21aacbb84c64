"""The examples of README.md and docs/ work: Python blocks run, command lines are parsed.

The Python blocks of a file run in order and in one namespace, as in a notebook, in a folder with
small stand-ins for what readers have: the folder ``photos``, the list ``pairs.txt`` of its pairs,
``a.jpg`` and ``b.jpg``. A comment before a block changes that: ``<!-- test: slow -->`` marks its
file slow, ``<!-- test: skip REASON -->`` only compiles the block.
"""

from __future__ import annotations

import functools
import inspect
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tyro
from matplotlib.figure import Figure
from PIL import Image

from featplug.io.pair_lists import write_pairs
from tests.conftest import REPOSITORY
from tests.hloc.conftest import STANDIN, forget_hloc
from tests.recipes import recipe_files
from tests.scenes.room_corner import write_room_corner

FILES = [
    path
    for pattern in ("*.md", "docs/*.md", "weights/*.md")
    for path in sorted(REPOSITORY.glob(pattern))
    if "```" in path.read_text("utf-8")
]
_BLOCK = re.compile(
    r"(?:^<!-- test: (?P<directive>.*?) -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
# Smaller sizes where an example makes its own data.
SMALLER = {"DemoOptions(": "DemoOptions(image_size=320, "}


@dataclass(frozen=True)
class Block:
    """A fenced block of a Markdown file."""

    path: Path
    line: int
    language: str
    text: str
    directive: str

    @property
    def place(self) -> str:
        return f"{self.path.relative_to(REPOSITORY)}:{self.line}"


def blocks(path: Path, *languages: str) -> list[Block]:
    """Return the blocks of a file in these languages, in order."""
    text = path.read_text("utf-8")
    return [
        Block(
            path,
            text.count("\n", 0, found.start("text")),
            found["language"],
            found["text"],
            found["directive"] or "",
        )
        for found in _BLOCK.finditer(text)
        if found["language"] in languages
    ]


def python_files() -> list[Any]:
    """Return a parameter for each file with Python blocks."""
    parameters = []
    for path in FILES:
        directives = [block.directive for block in blocks(path, "python")]
        if directives:
            marks = [pytest.mark.slow] if "slow" in directives else []
            name = str(path.relative_to(REPOSITORY))
            parameters.append(pytest.param(path, marks=marks, id=name))
    return parameters


@pytest.fixture
def readers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with photographs, where pictures are saved small."""
    write_room_corner(tmp_path, num_images=3, width=320)
    (tmp_path / "images").rename(tmp_path / "photos")
    for name, source in (("a.jpg", "00.png"), ("b.jpg", "01.png")):
        Image.open(tmp_path / "photos" / source).save(tmp_path / name)
    write_pairs(tmp_path / "pairs.txt", [("00.png", "01.png"), ("01.png", "02.png")])
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, path, **options: save(self, path, **{**options, "dpi": 20})
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("error:.*the old name goes:DeprecationWarning")
@pytest.mark.parametrize("path", python_files())
def test_python_blocks_run(
    path: Path, readers_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(STANDIN)
    forget_hloc()
    namespace: dict[str, Any] = {"__name__": "readers_notebook"}
    for block in blocks(path, "python"):
        text = block.text
        for shown, smaller in SMALLER.items():
            text = text.replace(shown, smaller)
        # So that an error's traceback has the line of the file.
        code = compile("\n" * block.line + text, str(path), "exec")
        if not block.directive.startswith("skip"):
            exec(code, namespace)
    forget_hloc()


class Parsed(Exception):  # noqa: N818
    """A command line was read to its end and would run now."""


def parse_only(function: Callable[..., Any], **options: Any) -> None:
    """Stand in for ``tyro.cli``: read the arguments as it does, but run nothing."""
    assert inspect.isroutine(function), "a command is a function"

    @functools.wraps(function)
    def parsed(*_: Any, **__: Any) -> None:
        raise Parsed

    CLI(parsed, **options)


CLI = tyro.cli


def command_lines(text: str) -> list[str]:
    """Return the commands of this project in a block, without comments and with joined lines."""
    lines = text.replace("\\\n", " ").splitlines()
    return [
        line for line in lines if re.match(r"featplug |python -m (featplug|pipelines|bench)", line)
    ]


COMMANDS = [
    pytest.param(line, id=f"{block.place} {line[:40]}")
    for path in FILES
    for block in blocks(path, "", "sh", "bash", "console")
    for line in command_lines(block.text)
]


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("line", COMMANDS)
def test_command_lines_are_parsed(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(line, comments=True)
    module, arguments = ("featplug", words[1:]) if words[0] == "featplug" else (words[2], words[3:])
    if arguments[:1] == ["hloc"]:
        pytest.skip("hloc's own commands read these arguments")
    for name, code in recipe_files().items():
        if "/" not in name:  # a reader's own
            (tmp_path / name).write_text(code, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tyro, "cli", parse_only)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    shows_help = "--help" in arguments
    with pytest.raises(SystemExit if shows_help else Parsed) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert not shows_help or ended.value.code == 0
