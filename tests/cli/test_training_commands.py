"""The training commands: what they prepare, train and leave."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file

from featplug.cli.command_line import run_command
from featplug.cli.config_file import read_config, write_config
from featplug.cli.program import TRAIN
from featplug.cli.training_commands import COMMANDS, prepare_files
from featplug.networks.d2net import D2Net
from featplug.training.data.sift_pairs import SIFTPairs
from featplug.training.data.view_pairs import MTLDescPairOptions
from featplug.training.tasks.lisrd_sift import LISRDSIFTOptions, LISRDSIFTTask
from featplug.training.tasks.mtldesc import MTLDescOptions
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
