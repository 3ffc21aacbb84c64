"""Parts by several processes of one machine, one for each device."""

from __future__ import annotations

from pathlib import Path

import pytest

from featplug.shards.executor_options import ShardOptions, first_device
from featplug.shards.processes import Processes
from featplug.shards.ray_cluster import RayCluster
from featplug.shards.run_parts import ThisProcess, run_parts
from featplug.stages.extract import ExtractOptions
from tests.shards.test_ray_cluster import Numbers, contents


def numbers(folder: Path, **options: tuple[int, ...]) -> Numbers:
    folder.mkdir()
    return Numbers(folder, **options)


@pytest.mark.slow
def test_two_processes_make_what_one_makes(tmp_path: Path) -> None:
    one, two = numbers(tmp_path / "one"), numbers(tmp_path / "two")
    run_parts(one)
    assert run_parts(two, executor=Processes(["cpu", "cpu"])).num_made == 6
    assert contents(two) == contents(one)


@pytest.mark.slow
def test_parts_that_a_process_dies_of_are_made_by_the_next_run(tmp_path: Path) -> None:
    stage = numbers(tmp_path / "out", deadly=(0,))
    with pytest.raises(ValueError, match=r"its process ended, as for lack of memory"):
        run_parts(stage, executor=Processes(["cpu"]))
    run_parts(stage, executor=Processes(["cpu"]))
    assert len(contents(stage)) == 6


def test_devices_with_commas_are_processes() -> None:
    assert isinstance(ShardOptions().chosen_executor(None), ThisProcess)
    assert ShardOptions().chosen_executor("cuda:0,cuda:1") == Processes(["cuda:0", "cuda:1"])
    assert ShardOptions(executor="ray", workers=3).chosen_executor(None) == RayCluster(None, 3)
    assert first_device(ExtractOptions(device="cuda:0,cuda:1")).device == "cuda:0"
    assert first_device(ExtractOptions()).device is None
    assert ShardOptions().share() is None
    assert ShardOptions(executor="ray").share() is not None
    with pytest.raises(ValueError, match="--workers must be 1 or more"):
        ShardOptions(workers=0).chosen_executor(None)
