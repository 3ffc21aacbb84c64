"""A small world of known truth, in the layouts of the data sets that the pipelines read.

``python -m pipelines.datasets.demo DIR``: an old town and a room are rendered here, without a
download; see :func:`make_demo_world`.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from featplug.cli.command_line import run_command
from featplug.io.files import write_whole

DEMO = Path("demo")
"""As a dataset's name: the demo world, in :data:`DEMO_FOLDER`."""
DEMO_FOLDER = Path("datasets") / "demo"
VERSION = 2
"""Of the world; another one is not used again."""
MARKER = "demo-world.json"
"""Written last, with the options; a folder with it is whole."""
_LOCK = ".demo-world.lock"
"""Held while the folder is made; from its being there one also knows that the folder is ours."""

Layout = Literal["aachen_v1.1", "aachen", "inloc", "megadepth", "hpatches"]


@dataclass(frozen=True)
class DemoOptions:
    """Size of the demo world."""

    seed: int = 0
    """Another seed, another town."""
    num_database: int = 40
    """Photographs of the database."""
    num_queries: int = 8
    """Queries by day, at dusk and at night, each."""
    num_scans: int = 4
    """Laser scans of the room, each cut into twelve views; up to five."""
    num_planes: int = 6
    """Planes, each a sequence of other light and one of other viewpoints."""
    image_size: int = 640
    """Longer side of the photographs in pixels."""
    num_moving: int = 0
    """People and vans about the streets, at other places in each photograph of the Aachen layouts;
    up to fifty."""


def make_demo_world(
    folder: Path,
    options: DemoOptions | None = None,
    layout: Layout = "aachen_v1.1",
    progress: bool = False,
) -> Path:
    """Make the demo world in one layout, unless it is there already.

    What an earlier call with the same options finished is used again; what it left unfinished, or
    made with other options, is made anew. While one process makes it, others wait for it.

    Args:
        folder: of the world, with a folder for each layout.
        options: its size.
        layout: of which data set; each has its truth in ``ground_truth.txt``, a line ``name qw qx
            qy qz tx ty tz`` (world to camera) for each query.
        progress: show it.

    Returns:
        The data set's folder.

    Raises:
        ValueError: an option is out of range, or the folder holds something else.
    """
    options = options or DemoOptions()
    _check(options)
    dataset = Path(folder) / layout
    record = {"version": VERSION, "layout": layout, **asdict(options)}
    if _read(dataset / MARKER) == record:
        return dataset
    # In this order: another process that begins just now makes its lock before anything else.
    is_filled = dataset.exists() and any(dataset.iterdir())
    ours = (dataset / MARKER).is_file() or (dataset / _LOCK).is_file()
    if is_filled and not ours:
        raise ValueError(f"{dataset} holds something else than a demo world; name another folder.")
    dataset.mkdir(parents=True, exist_ok=True)
    with (dataset / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _read(dataset / MARKER) == record:  # another process has made it meanwhile
            return dataset
        (dataset / MARKER).unlink(missing_ok=True)
        for path in dataset.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink()
        _WRITERS[layout](dataset, Path(folder), options, progress)
        text = json.dumps(record, indent=1) + "\n"
        write_whole(dataset / MARKER, lambda part: part.write_text(text, "utf-8"))
    return dataset


def _read(marker: Path) -> object:
    try:
        return json.loads(marker.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _check(options: DemoOptions) -> None:
    if options.num_database < 2 or options.num_queries < 1 or options.seed < 0:
        raise ValueError(
            "A demo world needs two photographs or more in its database, a query or more, and a "
            "seed that is not negative."
        )
    if not 1 <= options.num_scans <= 5:
        raise ValueError(f"The room has 1 to 5 laser scans, not {options.num_scans}.")
    if options.num_planes < 1:
        raise ValueError("Sequences of planes need one plane or more.")
    if not 160 <= options.image_size <= 4096:
        raise ValueError(f"The image size is {options.image_size}; it must be 160 to 4096 pixels.")
    if not 0 <= options.num_moving <= 50:
        raise ValueError(f"In a photograph 0 to 50 things move, not {options.num_moving}.")


def _aachen(dataset: Path, folder: Path, options: DemoOptions, progress: bool) -> None:
    from pipelines.demo.aachen_layout import write_aachen

    write_aachen(
        dataset,
        options.seed,
        options.num_database,
        options.num_queries,
        options.image_size,
        options.num_moving,
        progress,
    )


def _aachen_v1(dataset: Path, folder: Path, options: DemoOptions, progress: bool) -> None:
    from pipelines.demo.aachen_layout import write_aachen_v1

    write_aachen_v1(dataset, make_demo_world(folder, options, "aachen_v1.1", progress))


def _inloc(dataset: Path, folder: Path, options: DemoOptions, progress: bool) -> None:
    from pipelines.demo.inloc_layout import write_inloc

    write_inloc(
        dataset,
        options.seed,
        options.num_scans,
        options.num_queries,
        options.image_size,
        progress,
    )


def _megadepth(dataset: Path, folder: Path, options: DemoOptions, progress: bool) -> None:
    from pipelines.demo.megadepth_layout import write_megadepth

    write_megadepth(dataset, options.seed, options.num_database, options.image_size, progress)


def _hpatches(dataset: Path, folder: Path, options: DemoOptions, progress: bool) -> None:
    from pipelines.demo.hpatches_layout import write_hpatches

    write_hpatches(dataset, options.seed, options.num_planes, options.image_size, progress)


_WRITERS: dict[str, Callable[[Path, Path, DemoOptions, bool], None]] = {
    "aachen_v1.1": _aachen,
    "aachen": _aachen_v1,
    "inloc": _inloc,
    "megadepth": _megadepth,
    "hpatches": _hpatches,
}


def main(
    folder: tyro.conf.Positional[Path],
    layout: Layout = "aachen_v1.1",
    options: Annotated[DemoOptions, tyro.conf.arg(name="")] = DemoOptions(),
) -> None:
    """Make the demo world.

    Args:
        folder: of the world, with a folder for each layout.
        layout: of which data set.
        options: its size.
    """
    print(make_demo_world(folder, options, layout, progress=True))


if __name__ == "__main__":
    run_command(main, prog="python -m pipelines.datasets.demo")
