"""``python -m benchmarks.reconstruction --scenes DIR [DIR …] --feature NAME [NAME …]``."""

from __future__ import annotations

from typing import Annotated

import tyro

from benchmarks.reconstruction.measure import run_benchmark
from benchmarks.reconstruction.options import ReconstructionOptions
from benchmarks.reconstruction.table import run_lines
from featplug.cli import run_command


def main(options: Annotated[ReconstructionOptions, tyro.conf.arg(name="")]) -> None:
    """Compare features by the models that COLMAP makes with them (Schönberger et al. 2017).

    Each scene is extracted and matched once for each feature; with each seed it is verified and
    mapped. Features, matches and models that are in the output folder already are used again. The
    output folder gets results.json, and of each scene and feature the models and pictures.
    """
    run = run_benchmark(options, progress=True)
    print("\n".join(run_lines(run)))
    if not run.rows:
        raise ValueError("nothing could be measured; the problems are listed above.")
    print(f"all figures, models and pictures are in {options.outputs}")


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.reconstruction")
