"""Localize the queries of Aachen Day-Night.

``python -m pipelines.aachen --dataset DIR --feature NAME``; ``--dataset demo`` renders a small town
in the same layout and localizes in it.
"""

from featplug.cli.command_line import Unprefixed, run_command
from pipelines import localize
from pipelines.datasets.aachen import AachenOptions


def main(options: Unprefixed[AachenOptions], check: bool = False) -> None:
    """Localize the queries of Aachen Day-Night, or of a set in its layout, with any feature.

    Features, matches and the model that the output folder has already are reused. The output folder
    gets submission.txt for the benchmark, one of each condition, results.json, logs.json and
    localization.png.

    Args:
        options: options of the data set and its localization.
        check: only list missing and damaged files, and where to get them.
    """
    localize.run(options, check)


if __name__ == "__main__":
    run_command(main, prog="python -m pipelines.aachen")
