"""``python -m tests.shards.random_kills``: kills workers, nodes and drivers of a Ray cluster.

Parts of real features are made on a cluster of several nodes on this machine, until a hundred of
their processes were killed at random instants. In the end, all parts are there, and equal those of
a single process. It takes some minutes, and is no test of ``make test``.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featplug.io.parts.feature_parts import open_features
from featplug.io.parts.manifest import make_manifest
from featplug.shards.extract_parts import ExtractParts
from featplug.shards.run_parts import run_parts
from featplug.stages.extract import ExtractOptions

_OPTIONS = ExtractOptions(device="cpu", max_keypoints=200)
_DRIVER = """
import sys
from pathlib import Path
import ray
from featplug.shards.ray_cluster import RayCluster
from featplug.shards.run_parts import run_parts
from tests.shards.random_kills import stage_of

run_parts(stage_of(Path(sys.argv[1])), executor=RayCluster(sys.argv[2]))
"""


def stage_of(store: Path) -> ExtractParts:
    return ExtractParts(store, _OPTIONS.conf("sift"), _OPTIONS)


def write_images(folder: Path, number: int) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(number):
        pixels = np.kron(rng.integers(0, 255, (60, 80), np.uint8), np.ones((8, 8), np.uint8))
        Image.fromarray(pixels).save(folder / f"{i:04d}.png")


def workers() -> list[int]:
    """Return the processes of the actors."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().startswith(b"ray::_Worker"):
                found.append(int(path.parent.name))
    return found


def start_driver(store: Path, address: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _DRIVER, str(store), address]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_one(rng: random.Random, cluster: Any, driver: subprocess.Popen[bytes]) -> str | None:
    """Kill a worker, a node or the driver; return which one, or None if there is none now."""
    kind = rng.choices(["worker", "node", "driver"], [6, 1, 2])[0]
    if kind == "driver":
        driver.kill()
        driver.wait()
    elif kind == "worker":
        running = workers()
        if not running:
            return None
        with suppress(ProcessLookupError):
            os.kill(rng.choice(running), signal.SIGKILL)
    else:
        cluster.remove_node(rng.choice(sorted(cluster.worker_nodes, key=id)), allow_graceful=False)
        cluster.add_node(num_cpus=1)
    return kind


def main() -> None:
    from ray.cluster_utils import Cluster

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    rng = random.Random(wanted.seed)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_images(work / "images", 60)
        for store in ("here", "there"):
            make_manifest(work / "images", work / store, 2)
        run_parts(stage_of(work / "here"))
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        killed: Counter[str] = Counter()
        rounds = 0
        folder = stage_of(work / "there").folder
        while killed.total() < wanted.kills:
            for part in folder.glob("part-*") if folder.is_dir() else ():
                part.unlink()  # a new round
            rounds += 1
            driver = start_driver(work / "there", cluster.address)
            while driver.poll() is None and killed.total() < wanted.kills:
                time.sleep(rng.uniform(0.5, 8.0))
                if driver.poll() is None and (kind := kill_one(rng, cluster, driver)):
                    killed[kind] += 1
                    print(dict(killed), len(list(folder.glob("part-*"))), "parts", flush=True)
                    if kind == "driver":
                        driver = start_driver(work / "there", cluster.address)
            if driver.wait() != 0 and killed.total() < wanted.kills:
                print("a driver gave up; it is started again", flush=True)
                start_driver(work / "there", cluster.address).wait()
        driver.wait()
        start_driver(work / "there", cluster.address).wait()
        cluster.shutdown()
        lost, differing = compare(work)
        print(f"{killed.total()} kills in {rounds} rounds: {dict(killed)}")
        print(f"{lost} images lost, {differing} differing")
    sys.exit(bool(lost or differing))


def compare(work: Path) -> tuple[int, int]:
    lost = differing = 0
    with (
        open_features(stage_of(work / "here").folder) as expected,
        open_features(stage_of(work / "there").folder) as found,
    ):
        for name in expected.names():
            if name not in found:
                lost += 1
                continue
            a, b = expected.read(name), found.read(name)
            differing += a.keys() != b.keys() or any(
                not np.array_equal(a[key], b[key]) for key in a
            )
    return lost, differing


if __name__ == "__main__":
    main()
