"""``python -m benchmarks.site RUN… -o DIR``: a leaderboard of static pages."""

from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.record import counted
from benchmarks.site.site_folder import check_folder, write_site
from benchmarks.site.site_pages import make_site
from featplug.cli.command_line import run_command
from featplug.io.typed_json import printable


def main(
    runs: tyro.conf.Positional[tuple[Path, ...]] = (),
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("site"),
    title: str = "Local features",
) -> None:
    """Make static pages of runs, for any host of files: a table for each data set and protocol.

    Args:
        runs: folders of runs, folders that contain some, and zip files of `featplug bench submit`
            or folders with such.
        output: folder of the site: a new one, an empty one, or a site that is replaced.
        title: title of the site.
    """
    if not runs:
        raise ValueError("Give the folders of runs, or zip files of `featplug bench submit`.")
    check_folder(output)
    site, files = make_site(runs, printable(title))
    write_site(output, files)
    size = sum(map(len, files.values())) / 1e6
    print(
        f"{printable(str(output / 'index.html'))}: {counted(len(site.tables), 'table')} of "
        f"{counted(len(site.runs), 'run')} ({counted(len(files), 'file')}, {size:.1f} MB)"
    )
    for problem in site.problems:
        print(f"  problem: {' '.join(f'{problem.subject}: {problem.reason}'.split())}")


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.site")
