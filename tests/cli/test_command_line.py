"""How commands read options, keep quiet, stop, and leave the file that makes a run again."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from featplug import __version__
from featplug.cli.command_line import Unprefixed, leave_config, run_command
from featplug.utils.progress import progress_bar


@dataclass(frozen=True)
class Options:
    """What a run is made of."""

    images: Path
    """Folder of photographs, whose
    description has `two` lines."""
    num_matched: int = 20
    """Number of pairs."""
    outputs: Path = Path("outputs")
    """Folder of the run."""

    @property
    def output_dir(self) -> Path:
        """Folder of the run."""
        return self.outputs


@pytest.fixture
def runs() -> list[tuple[Options, bool]]:
    """What the command of a test was called with."""
    return []


@pytest.fixture
def command(runs: list[tuple[Options, bool]]) -> Callable[..., None]:
    """A command that works as the pipelines do."""

    def main(options: Unprefixed[Options], check: bool = False) -> None:
        """Do some work.

        Args:
            options: what to work on.
            check: only check,
                but keep everything that exists.
        """
        runs.append((options, check))
        if not options.images.name:
            raise ValueError(f"{options.images} is no folder.")
        leave_config(replace(options))  # of another run, inside this one
        if not check:
            leave_config(options)
            logging.getLogger("featplug").info("at work")
            for _ in progress_bar([1], "work", 1, "piece", True):
                print("result")

    return main


def test_a_config_makes_the_run_again_and_the_command_line_wins(
    command: Callable[..., None], runs: list[tuple[Options, bool]], tmp_path: Path
) -> None:
    outputs = tmp_path / "run"
    arguments = ["--images", "photos", "--num_matched", "7", "--outputs", str(outputs)]
    run_command(command, "featplug work", [*arguments, "--check"])
    assert not outputs.exists()
    run_command(command, "featplug work", arguments)
    config = outputs / "config.toml"
    assert config.read_text().splitlines()[1:] == [
        'command = "work"',
        'images = "photos"',
        "num_matched = 7",
        f'outputs = "{outputs}"',
        "check = false",
    ]
    run_command(command, "featplug work", ["--config", str(config)])
    assert runs[-1] == runs[-2] == (Options(Path("photos"), 7, outputs), False)
    run_command(command, "featplug work", ["--num-matched", "9", f"--config={config}"])
    assert runs[-1] == (Options(Path("photos"), 9, outputs), False)
    assert "num_matched = 9" in config.read_text()


def test_a_config_may_have_some_of_the_options(
    command: Callable[..., None],
    runs: list[tuple[Options, bool]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("num-matched = 3")
    run_command(command, "tool", ["--images", "a", "--config", str(config), "--check"])
    assert runs == [(Options(Path("a"), 3), True)]
    with pytest.raises(SystemExit) as ended:
        run_command(command, "tool", ["--config", str(config)])
    assert ended.value.code == 2
    assert "--images" in capsys.readouterr().err


def test_the_lines_of_a_docstring_flow_in_help(
    command: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        run_command(command, "tool", ["--help"])
    shown = capsys.readouterr().out
    assert "Folder of photographs, whose description has `two` lines. (required)" in shown
    assert "only check, but keep everything that exists. (default: False)" in shown


def test_a_rejected_run_leaves_nothing(
    refusal: Callable[..., str], command: Callable[..., None], tmp_path: Path
) -> None:
    refusal(command, "tool", "--images", "/", "--outputs", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_errors_of_the_system_are_sentences(
    refusal: Callable[..., str], command: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    line = refusal(command, "tool", "--images", "a", "--outputs", tmp_path / "file")
    assert f"{tmp_path / 'file'}: " in line
    assert "choose another" in line
    assert "Errno" not in line


@pytest.mark.parametrize("filename", [None, "out/a.json"])
def test_a_full_disk_is_a_sentence(refusal: Callable[..., str], filename: str | None) -> None:
    """Python names the file where it opens it, and not where it writes."""

    def write() -> None:
        """Write."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), filename)

    line = refusal(write, "tool")
    assert "disk is full" in line
    assert "free some space" in line
    assert "Errno" not in line
    assert filename is None or filename in line


def test_quiet_leaves_the_results(
    command: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    arguments = ["--images", "a", "--outputs", str(tmp_path)]
    run_command(command, "tool", [*arguments, "--quiet"])
    printed = capsys.readouterr()
    assert printed.out == "result\n"
    assert not printed.err
    assert not caplog.messages
    run_command(command, "tool", arguments)
    printed = capsys.readouterr()
    assert printed.out == "result\n"
    assert "work" in printed.err
    progress_bar([], "idle", 0, "image", shown=True).close()
    assert not capsys.readouterr().err
    assert caplog.messages == ["at work"]


def test_mistyped_options_are_explained(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(command, "tool", ["--images", "a", "--num-mached", "3"])
    assert ended.value.code == 2
    assert re.search(r"Perhaps you meant:[^-]*--num-matched", capsys.readouterr().err)


def test_ctrl_c_names_the_way_to_resume(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(overwrite: bool = False) -> None:
        """Stop at once.

        Args:
            overwrite: replace files.
        """
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        run_command(stopped, "tool", ["--overwrite"])
    assert ended.value.code == 130
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "without --overwrite" in line


def test_version(command: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    run_command(command, "tool", ["--version"])
    assert capsys.readouterr().out == f"featplug {__version__}\n"


def test_a_path_that_cannot_be_printed_does_not_end_a_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "utf-8"))
    run_command(lambda: print(os.fsdecode(b"photos\xff")), "x", [])
    sys.stdout.flush()
    assert written.getvalue() == b"photos\\udcff\n"
