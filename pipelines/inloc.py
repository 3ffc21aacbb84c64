"""Localize the queries of InLoc.

``python -m pipelines.inloc --dataset DIR --feature NAME``; ``--dataset demo`` renders a room in the
same layout and localizes in it.
"""

from featplug.cli.command_line import Unprefixed, run_command
from pipelines import localize
from pipelines.datasets.inloc import InLocOptions


def main(options: Unprefixed[InLocOptions], check: bool = False) -> None:
    """Localize the queries of InLoc, or of a set in its layout, with any feature.

    Features, matches and scan points that the output folder has already are reused. The output
    folder gets submission.txt for the benchmark, results.json, logs.json and localization.png.

    Args:
        options: options of the data set and its localization.
        check: only list missing and damaged files, and where to get them.
    """
    localize.run(options, check)


if __name__ == "__main__":
    run_command(main, prog="python -m pipelines.inloc")
