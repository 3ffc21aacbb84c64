"""The training commands: what they prepare, train and leave."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from featplug.cli.command_line import run_command
from featplug.cli.config_file import read_config, write_config
from featplug.cli.program import TRAIN
from featplug.cli.training_commands import COMMANDS, prepare_files
from featplug.io.artifact import Provenance, files_hash
from featplug.io.files import write_whole_text
from featplug.networks.d2net import D2Net
from featplug.training.data.sift_pairs import SIFTPairs
from featplug.training.data.view_pairs import MTLDescPairOptions
from featplug.training.tasks.lisrd_sift import LISRDSIFTOptions, LISRDSIFTTask
from featplug.training.tasks.mtldesc import MTLDescOptions
from featplug.training.trainer import check_resumable
from tests.networks.test_d2net import seeded_state
from tests.scenes.pictures import write_photographs, write_textured_images
from tests.scenes.room_corner import write_corner_workspace
from tests.training.processes import run_two_processes


@pytest.mark.slow
def test_of_two_processes_one_prepares_the_data(tmp_path: Path) -> None:
    write_textured_images(tmp_path / "images", 2, width=340, height=260)
    code = (
        "from pathlib import Path\n"
        "from featplug.cli.training_commands import prepare_files\n"
        "from featplug.training.data.sift_pairs import SIFTPairs\n"
        "from featplug.training.tasks.lisrd_sift import LISRDSIFTOptions, LISRDSIFTTask\n"
        f"root = Path({str(tmp_path)!r})\n"
        "run = {'images': root / 'images', 'outputs': root / 'run', 'device': 'cpu'}\n"
        "options = LISRDSIFTOptions(**run, pairs=root / 'pairs.h5', num_workers=0)\n"
        "prepare_files(LISRDSIFTTask, options)\n"
        "SIFTPairs(root / 'pairs.h5').require(['000.png', '001.png'])\n"
    )
    first, second = run_two_processes(code)
    assert (first.returncode, second.returncode) == (0, 0), first.errors + second.errors
    assert "photograph" in first.errors
    assert "photograph" not in second.errors
    assert SIFTPairs(tmp_path / "pairs.h5").names() == ["000.png", "001.png"]


def test_one_photograph_is_rejected_before_anything_is_made_of_it(tmp_path: Path) -> None:
    write_textured_images(tmp_path / "images", 1, width=64, height=48)
    options = LISRDSIFTOptions(images=tmp_path / "images", outputs=tmp_path / "run")
    with pytest.raises(ValueError, match="at least two photographs"):
        prepare_files(LISRDSIFTTask, options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.5}, "run was made with learning_rate = 0.5.*--outputs"),
        ({"steps": 0}, "steps must be 1 or more"),
        ({"start": Path("gone.safetensors")}, "no gone.safetensors; correct --start"),
        ({"matcher": "NN-rato"}, "no matcher 'NN-rato'.*'NN-ratio'"),
        ({"matcher": "NN-ratio", "matcher_option": ("ratio=1",)}, "no option 'ratio'"),
    ],
)
def test_a_request_that_does_not_fit_is_rejected_before_a_file_is_made(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_textured_images(tmp_path / "images", 2, width=64, height=48)
    first = LISRDSIFTOptions(images=tmp_path / "images", outputs=tmp_path / "run")
    names = ["000.png", "001.png"]
    of_run = replace(first, **{k: v for k, v in changes.items() if k == "learning_rate"})
    conf = {"system": "lisrd-sift", "processes": 1, **of_run.identity()}
    inputs = {"photographs": files_hash(first.images, names), "pairs": "1"}
    made = Provenance("a training of lisrd-sift", json.loads(json.dumps(conf, default=str)))
    made = replace(made, inputs=inputs)
    write_whole_text(tmp_path / "run" / "made_from.json", made.to_json())
    check_resumable(of_run, inputs["photographs"])
    if "learning_rate" in changes:
        changes = {}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        prepare_files(LISRDSIFTTask, replace(first, **changes))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["made_from.json"]


def test_the_folder_of_another_run_is_rejected(tmp_path: Path, refusal: Callable[..., str]) -> None:
    write_textured_images(tmp_path / "images", 2, width=64, height=48)
    run = tmp_path / "run"
    arguments = ["--images", tmp_path / "images", "--outputs", run]
    write_whole_text(run / "results.json", "{}")
    line = refusal(COMMANDS["lisrd-sift"], "featplug train lisrd-sift", *arguments)
    assert f"{run} holds a run of another command" in line
    holder = "import sys; from pathlib import Path\n"
    holder += "from featplug.io.folder_lock import locked_folder\n"
    holder += f"with locked_folder(Path({str(run)!r})): print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        line = refusal(COMMANDS["lisrd-sift"], "featplug train lisrd-sift", *arguments)
        process.communicate(b"")
    assert f"{run} is in use" in line
    assert [path.name for path in run.iterdir()] == ["results.json"]


def test_a_run_leaves_weights_and_the_config_that_makes_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photographs(tmp_path / "images", [(240, 200)] * 3)
    write_corner_workspace(tmp_path / "corner")
    start, outputs = tmp_path / "vgg16.safetensors", tmp_path / "run"
    save_file(seeded_state(D2Net()), start)
    line = [
        "--images",
        tmp_path / "images",
        "--outputs",
        outputs,
        "--workspaces",
        tmp_path / "corner",
    ]
    line += ["--start", start, "--steps", 1, "--crop", 56, "--validation-pairs", 1]
    line += ["--device", "cpu", "--num_workers", 0]
    run_command(TRAIN, "featplug train", ["d2net", *map(str, line)])
    assert "finished after 1 steps" in capsys.readouterr().out
    assert (outputs / "weights.safetensors").is_file()

    config = ["d2net", "--config", str(outputs / "config.toml")]
    run_command(TRAIN, "featplug train", config)
    assert "finished after 1 steps" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        run_command(TRAIN, "featplug train", [*config, "--layers", "2"])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert "layers = 1" in message
    assert "--outputs" in message
    assert "layers = 1" in (outputs / "config.toml").read_text()


def test_optional_groups_of_options_survive_in_a_config(tmp_path: Path) -> None:
    options = MTLDescOptions(images=tmp_path, outputs=tmp_path, pairs=MTLDescPairOptions(grid=8))
    command = COMMANDS["mtldesc"]
    write_config(tmp_path, "train mtldesc", command, {"options": options})
    found = read_config(tmp_path / "config.toml", "train mtldesc", command)
    assert found == {"options": options}
