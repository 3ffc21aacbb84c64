"""``python -m benchmarks.reconstruction --scenes DIR [DIR …] --feature NAME [NAME …]``."""

from __future__ import annotations

from typing import Annotated

import tyro

from benchmarks.console import conclude
from benchmarks.reconstruction.evaluate_scene import run_benchmark
from benchmarks.reconstruction.options import ReconstructionOptions
from benchmarks.reconstruction.summary import run_lines
from featplug.cli.command_line import run_command


def main(options: Annotated[ReconstructionOptions, tyro.conf.arg(name="")]) -> None:
    """Compare features by the models that COLMAP makes with them (Schönberger et al. 2017).

    Each scene is extracted and matched once for each feature; with each seed it is verified and
    mapped. Features, matches and models that are in the output folder already are used again. The
    output folder gets results.json, and of each scene and feature the models and pictures.
    """
    run = run_benchmark(options, progress=True)
    conclude(run, options.output_dir, run_lines(run))


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.reconstruction")
