"""``python -m benchmarks.reconstruction --scenes DIR [DIR …] --feature NAME [NAME …]``."""

from benchmarks.console import conclude
from benchmarks.reconstruction.evaluate_scene import run_benchmark
from benchmarks.reconstruction.options import ReconstructionOptions
from benchmarks.reconstruction.summary import run_lines
from featplug.cli.command_line import Unprefixed, run_command


def main(options: Unprefixed[ReconstructionOptions]) -> None:
    """Compare features by the models that COLMAP makes with them (Schönberger et al. 2017).

    Each scene is extracted and matched once for each feature, and verified and mapped with each
    seed. Features, matches and models of an earlier run in the output folder are reused. The folder
    gets results.json, and the models and pictures of each scene and feature.
    """
    run = run_benchmark(options, progress=True)
    conclude(run, options.output_dir, run_lines(run))


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.reconstruction")
