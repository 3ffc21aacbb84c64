"""Parts on a real Ray cluster of this machine: workers, nodes and the driver are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import pytest

from featplug.io.artifact import Provenance
from featplug.io.parts.part_files import H5PartWriter, Key
from featplug.shards.part_stage import PartReport, PartStage
from featplug.shards.ray_cluster import RayCluster
from featplug.shards.run_parts import run_parts

ray = pytest.importorskip("ray", reason="Ray is not installed")
cluster_utils = pytest.importorskip("ray.cluster_utils")
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Numbers(PartStage):
    """Parts of random numbers; some of them kill, sleep or fail."""

    name = "numbers"

    outputs: Path
    num_parts: int = 6
    seconds: float = 0.0
    slow: tuple[int, ...] = ()
    deadly: tuple[int, ...] = ()
    full: tuple[int, ...] = ()

    @property
    def folder(self) -> Path:
        return self.outputs / "numbers"

    def keys(self) -> list[Key]:
        return [(number,) for number in range(self.num_parts)]

    @property
    def made_by(self) -> Provenance:
        return Provenance("numbers", {})

    def inputs(self, key: Key) -> dict[str, str | None]:
        return {"number": str(key[0])}

    def on_device(self, device: str | None) -> Self:
        return self

    def write(self, key: Key, path: Path, provenance: Provenance, progress: bool) -> PartReport:
        (number,) = key
        marker = self.outputs / f"tried-{number}"
        is_first = not marker.exists()
        marker.touch()
        if number in self.deadly and is_first:
            os.kill(os.getpid(), signal.SIGKILL)
        if number in self.full and is_first:
            raise ValueError(f"The disk of {path} is full; free some, and run again.")
        time.sleep(20 if number in self.slow and is_first else self.seconds)
        with H5PartWriter(path, provenance) as writer:
            values = np.random.default_rng(number).normal(size=100)
            writer.link("numbers", {"values": values}, {})
            report = PartReport(1)
            writer.write_report(report.to_json())
        return report


def contents(stage: PartStage) -> dict[str, bytes]:
    found = {}
    for path in sorted(stage.folder.glob("part-*.h5")):
        with h5py.File(path) as file:
            found[path.name] = file["numbers/values"][:].tobytes()
    return found


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Any]:
    """A cluster of a head and two nodes of one core each."""
    made = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    for _ in range(2):
        made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, bytes]:
    stage = Numbers(tmp_path / "here")
    (tmp_path / "here").mkdir()
    run_parts(stage)
    return contents(stage)


def stage_of(tmp_path: Path, **options: Any) -> Numbers:
    outputs = tmp_path / "there"
    outputs.mkdir(exist_ok=True)
    return Numbers(outputs, **options)


def test_workers_nodes_and_slow_parts(
    cluster: Any, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    """One worker dies of a part, one part never ends, and a node is gone: nothing is lost."""
    stage = stage_of(tmp_path, seconds=0.3, slow=(3,), deadly=(1,))
    removed = []

    def on_result(_: Any) -> None:
        if not removed:
            removed.append(cluster.add_node(num_cpus=1))
            cluster.remove_node(next(iter(cluster.worker_nodes)))

    start = time.monotonic()
    done = run_parts(stage, executor=RayCluster(), on_result=on_result)
    assert done.num_made == 6
    assert contents(stage) == expected
    assert time.monotonic() - start < 120
    assert run_parts(stage, executor=RayCluster()).num_made == 0


def test_a_full_disk_costs_its_part_only(cluster: Any, tmp_path: Path, expected: Any) -> None:
    stage = stage_of(tmp_path, full=(2,))
    with pytest.raises(ValueError, match=r"1 of 6 parts.*part-00002.*is full"):
        run_parts(stage, executor=RayCluster())
    assert len(contents(stage)) == 5
    assert run_parts(stage, executor=RayCluster()).num_made == 1
    assert contents(stage) == expected


def test_workers_of_another_version_are_named(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featplug.shards.ray_cluster.__version__", "99.0")
    with pytest.raises(ValueError, match=r"has featplug .*, this program 99\.0"):
        run_parts(stage_of(tmp_path), executor=RayCluster(num_workers=1))


def test_a_cluster_without_room_is_named(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too little for a worker of 64 CPU"):
        run_parts(stage_of(tmp_path), executor=RayCluster(cpus=64))


DRIVER = """
import sys
from pathlib import Path
from featplug.shards.ray_cluster import RayCluster
from featplug.shards.run_parts import run_parts
from tests.shards.test_ray_cluster import Numbers

run_parts(Numbers(Path(sys.argv[1]), seconds=0.5), executor=RayCluster(num_workers=2))
"""


def test_a_killed_driver_is_started_again(tmp_path: Path, expected: dict[str, bytes]) -> None:
    stage = stage_of(tmp_path, seconds=0.5)
    command = [sys.executable, "-c", DRIVER, str(stage.outputs)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(stage.folder.glob("part-*.h5")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    made = len(contents(stage))
    assert made < 6
    assert run_parts(stage).num_made <= 6 - made
    assert contents(stage) == expected
