"""A small world of known truth, in the layouts of the data sets that the pipelines read.

``python -m pipelines.datasets.demo DIR``: an old town and a room are rendered here, without a
download; see :func:`make_demo_world`.
"""

import fcntl
import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from featplug.cli.command_line import run_command
from featplug.io.artifact import Artifact, Provenance

DEMO = Path("demo")
"""The demo world, in :data:`DEMO_FOLDER`, as the name of a data set."""
DEMO_FOLDER = Path("datasets") / "demo"
REVISION = 2
"""Revision of the world, to be raised when a photograph or a truth changes."""
MARKER = "demo-world.json"
"""Options of the world in its folder, which show that the folder is ours to replace."""

Town = Literal["aachen_v1.1", "aachen", "scene", "megadepth"]
Released = Literal["7scenes", "12scenes", "cambridge", "eth3d", "robotcar", "cmu", "lamar"]
Pairs = Literal[
    "pairs",
    "megadepth1500",
    "megadepth1500_loftr",
    "scannet1500",
    "scannet1500_superglue",
    "scannet1500_loftr",
]
PosedScenes = Literal["phototourism", "imc2022", "eth3d_pairs", "wxbs"]
Layout = Town | Released | Pairs | PosedScenes | Literal["inloc", "hpatches", "evd"]

_MADE_FROM: dict[Layout, Layout] = {
    "aachen": "aachen_v1.1",
    **dict.fromkeys(("12scenes", "cambridge", "eth3d", "robotcar", "cmu", "lamar"), "7scenes"),
    **dict.fromkeys(get_args(Pairs)[1:] + get_args(PosedScenes), "pairs"),
    "evd": "hpatches",
}
"""Layout to the one that it is made from."""
_LEAST = {"num_database": 2, "num_queries": 1, "num_scans": 1, "num_planes": 1, "image_size": 160}
_MOST = {"num_scans": 5, "image_size": 4096, "num_moving": 50}


@dataclass(frozen=True)
class DemoOptions:
    """Size of the demo world."""

    seed: int = 0
    """Seed: another seed makes another town."""
    num_database: int = 40
    """Number of photographs in the database."""
    num_queries: int = 8
    """Number of queries by day, at dusk and at night, each."""
    num_scans: int = 4
    """Number of laser scans of the room, each cut into twelve views; up to five."""
    num_planes: int = 6
    """Number of planes, each a sequence of other light and one of other viewpoints."""
    image_size: int = 640
    """Longer side of the photographs in pixels."""
    num_moving: int = 0
    """Number of people and vans about the streets, at other places in each photograph of the Aachen
    layouts; up to fifty."""

    def check(self) -> None:
        """Raise ValueError if an option is out of range."""
        for name, value in asdict(self).items():
            least, most = _LEAST.get(name, 0), _MOST.get(name)
            if value < least or (most is not None and value > most):
                limits = f"{least} or more" if most is None else f"{least} to {most}"
                raise ValueError(f"{name} of the demo world is {value}; it must be {limits}.")


def make_demo_world(
    folder: Path,
    options: DemoOptions | None = None,
    layout: Layout = "aachen_v1.1",
    progress: bool = False,
) -> Path:
    """Make the demo world in one layout, unless it exists already, and return its folder.

    While one process makes it, others wait for it. One of other options is made again.

    Args:
        folder: folder of the world, with a folder for each layout.
        options: size of the world.
        layout: data set whose layout it has, with the truth in ``ground_truth.txt``, a line ``name
            qw qx qy qz tx ty tz`` (world to camera) for each query.
        progress: whether to show the progress.

    Raises:
        ValueError: an option is out of range, or the folder holds something else.
    """
    options = options or DemoOptions()
    options.check()
    folder, dataset = Path(folder), Path(folder) / layout
    conf = {"layout": layout, **asdict(options)}
    world = Artifact(dataset, Provenance("demo world", conf, revisions={"demo": REVISION}))

    def write(part: Path) -> None:
        # Imported here, as most commands never need it.
        from pipelines.demo.layouts import WRITERS

        if layout in _MADE_FROM:
            make_demo_world(folder, options, _MADE_FROM[layout], progress)
        part.mkdir()
        WRITERS[layout](part, options, progress)
        (part / MARKER).write_text(json.dumps(conf, indent=1) + "\n", "utf-8")

    if world.reason_to_make() is None:
        return dataset
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{layout}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if world.reason_to_make() is None:  # another process has made it meanwhile
            return dataset
        # A lock in the folder is that of a world that featplug 0.1 left unfinished.
        ours = (dataset / MARKER).is_file() or (dataset / ".demo-world.lock").is_file()
        if dataset.exists() and any(dataset.iterdir()) and not ours:
            raise ValueError(
                f"{dataset} holds something else than a demo world; use another folder."
            )
        for unfinished in folder.glob(f".{layout}.*.part"):
            shutil.rmtree(unfinished)
        world.make(write)
    return dataset


def demo_seed(dataset: Path) -> int | None:
    """Return the seed in ``demo-SEED``, 0 of ``demo``, or None of any other name."""
    found = re.fullmatch(rf"{DEMO}(?:-(\d+))?", str(dataset))
    return None if found is None else int(found[1] or 0)


def make_demo_scene(seed: int = 0, progress: bool = False) -> Path:
    """Make 60 photographs of a town with their true poses, unless they exist; return the folder."""
    options = DemoOptions(seed=seed, num_database=60)
    return make_demo_world(DEMO_FOLDER / f"town-{seed}", options, "scene", progress)


def make_demo_pairs(seed: int = 0, layout: Pairs = "pairs", progress: bool = False) -> Path:
    """Make a few dozen pairs of the town with true poses, unless they exist; return the folder.

    Args:
        seed: seed of the town.
        layout: ``pairs``, which has parts of other viewpoints by day and of a night and a day, or
            the layout of a data set.
        progress: whether to show the progress.
    """
    return make_demo_world(DEMO_FOLDER / f"town-{seed}", DemoOptions(seed=seed), layout, progress)


def main(
    folder: tyro.conf.Positional[Path],
    layout: Layout = "aachen_v1.1",
    options: Annotated[DemoOptions, tyro.conf.arg(name="")] = DemoOptions(),
) -> None:
    """Make the demo world.

    Args:
        folder: folder of the world, with a folder for each layout.
        layout: data set whose layout it has.
        options: size of the world.
    """
    print(make_demo_world(folder, options, layout, progress=True))


if __name__ == "__main__":
    run_command(main, prog="python -m pipelines.datasets.demo")
