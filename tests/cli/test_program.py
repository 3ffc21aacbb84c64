"""The program: its commands are found by name, imported late, and explain themselves."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from featplug.cli.command_line import run_command
from featplug.cli.program import PROGRAM, Command, command_name, data_set_commands
from featplug.io.pair_lists import write_pairs
from featplug.stages.pairs import exhaustive
from tests.cli.conftest import load_commands
from tests.conftest import REPOSITORY
from tests.scenes.synthetic import SyntheticScene


@pytest.mark.parametrize(
    "start", [["-m", "featplug"], ["-c", "import featplug.__main__ as m; m.main()"]]
)
def test_help_needs_neither_torch_nor_colmap(start: list[str]) -> None:
    code = [sys.executable, "-X", "importtime", *start, "--help"]
    ended = subprocess.run(code, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    for command in ("sfm", "extract", "pairs", "bench", "train", "list"):
        assert re.search(rf"^  {command} +[A-Z].*\.$", ended.stdout, re.MULTILINE)
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "featplug.cli.program" in imported
    assert not imported & {"torch", "pycolmap", "cv2", "h5py", "numpy"}


def test_every_command_explains_its_options_in_plain_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = list(load_commands())
    assert len(names) > 30
    problems = []
    for name in names:
        with pytest.raises(SystemExit) as ended:
            run_command(PROGRAM, "featplug", [*name.split(), "--help"])
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert f"usage: featplug {name} " in text
        problems += [f"{name}: markup {markup}" for markup in re.findall(r":\w+:`|``.*", text)]
        # Where an option has no text, its default follows at once, or opens the line below.
        bare = re.findall(r"│ (--\S+(?: \S+)*) *(?:│\n│ +)?\((?:default|required)", text)
        problems += [f"{name}: {option} has no text" for option in bare]
    assert not problems, "\n".join(problems)


def test_the_closest_command_is_suggested(refusal: Callable[..., str]) -> None:
    line = refusal(PROGRAM, "featplug", "extrat")
    assert "'extract'?" in line
    assert "featplug --help" in line
    line = refusal(PROGRAM, "featplug", "bench", "machting", "--dataset", "x")
    assert "'matching'?" in line
    assert "featplug bench --help" in line
    assert "COMMAND --quiet" in refusal(PROGRAM, "featplug", "--quiet", "list")


def test_a_group_without_a_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(PROGRAM, "featplug", ["pairs"])
    assert ended.value.code == 2
    assert "retrieval" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("prog", "name"),
    [
        ("featplug sfm", "sfm"),
        ("python -m pipelines.sfm", "sfm"),
        ("python -m benchmarks.matching", "bench matching"),
        ("python -m benchmarks.report", "report"),
        ("python -m featplug.training doap", "train doap"),
        ("tool", "tool"),
    ],
)
def test_a_command_has_one_name_however_it_is_called(prog: str, name: str) -> None:
    assert command_name(prog) == name


def test_a_model_is_made_again_from_its_config(
    featplug: Callable[..., str], synthetic_scene: SyntheticScene, tmp_path: Path
) -> None:
    scene, outputs = synthetic_scene, tmp_path / "run"
    write_pairs(tmp_path / "pairs.txt", exhaustive(scene.names))
    featplug(
        "sfm", "--quiet", "--images", scene.images, "--features", scene.features,
        "--matches", scene.matches, "--pairs", tmp_path / "pairs.txt", "--matcher", "NN-mutual",
        "--camera.mode", "single", "--outputs", outputs, "--seed", 3,
    )  # fmt: skip
    first = json.loads((outputs / "results.json").read_text())
    (outputs / "results.json").unlink()
    featplug("sfm", "--quiet", "--config", outputs / "config.toml")
    second = json.loads((outputs / "results.json").read_text())
    assert second["options"] == first["options"]
    for name in ("registered_images", "sparse_points", "observations"):
        assert second["metrics"][name] == first["metrics"][name]


def test_a_data_set_is_a_command(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    for name in ("datasets/street", "datasets/protocol", "street", "sfm"):
        (tmp_path / f"{name}.py").write_text(f'"""Localize the queries of {name}.\n\nLong."""\n')
    text = '"""One Room: frames of a room.\n"""\nclass RoomOptions:\n    pipeline = "1room"\n'
    (tmp_path / "datasets" / "one_room.py").write_text(text)
    assert data_set_commands(tmp_path) == {
        "street": Command("pipelines.street:main", "Localize the queries of street."),
        "1room": Command(
            "pipelines.localize:data_set_command",
            "Localize the queries of One Room.",
            data_set="1room",
        ),
    }
    assert {"sfm", "aachen", "inloc", "7scenes", "cambridge"} <= load_commands().keys()
