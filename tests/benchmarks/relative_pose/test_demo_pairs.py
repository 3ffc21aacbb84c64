"""Relative poses in the demo world, from photographs to figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.matching.protocols import PROTOCOLS as MATCHING
from benchmarks.pairs import demo_sets
from benchmarks.record import read_run
from benchmarks.relative_pose.__main__ import RelativePoseOptions, main
from pipelines.datasets.demo import DEMO, DemoOptions, demo_seed, make_demo_world

SMALL = DemoOptions(num_database=14, num_queries=2, image_size=360)


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Seeds of the towns that are asked for, of which one smaller town is rendered."""
    seeds: list[int] = []

    def make(seed: int, progress: bool = False) -> Path:
        seeds.append(seed)
        return make_demo_world(tmp_path / "demo", SMALL, "pairs")

    monkeypatch.setattr(demo_sets, "make_demo_pairs", make)
    return seeds


def test_poses_of_the_demo_world_are_found(rendered: list[int], tmp_path: Path) -> None:
    main(
        RelativePoseOptions(
            Path("demo-3"),
            feature=("sift+NN-ratio",),
            outputs=tmp_path / "run",
            num_seeds=1,
            pictures=False,
        )
    )
    assert rendered == [3]
    run = read_run(tmp_path / "run")
    assert not run.problems
    rows = {row.part: row for row in run.rows}
    assert set(rows) == {"all", "viewpoint", "night"}
    assert rows["all"].dataset == "demo-pairs-3"
    # The focal length is about 300 px: half a pixel would be three times as much as 0.0005.
    assert rows["viewpoint"].metrics["epipolar_precision_0.0005"]["value"] > 0.6
    assert rows["viewpoint"].metrics["pose_auc_20"]["value"] > 0.1


def test_a_name_of_the_demo_world_has_a_seed() -> None:
    names = [DEMO, Path("demo-12"), Path("./demo-1"), Path("demo-x"), Path("a/demo"), Path("demos")]
    assert [demo_seed(name) for name in names] == [0, 12, 1, None, None, None]


def test_matching_has_the_planes_of_the_demo_world(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = DemoOptions(seed=2, num_planes=1, image_size=160)

    def make(folder: Path, options: DemoOptions, layout: str, progress: bool) -> Path:
        assert (options.seed, layout) == (2, "hpatches")
        return make_demo_world(tmp_path, small, "hpatches")

    monkeypatch.setattr(demo_sets, "make_demo_world", make)
    layouts = {protocol.layout for protocol in MATCHING.values()}
    data = demo_sets.find_pairs(Path("demo-2"), None, layouts)
    assert data.layout == "hpatches"
    assert data.read().name == "demo-planes-2"
    assert len(data.read().pairs) == 10
