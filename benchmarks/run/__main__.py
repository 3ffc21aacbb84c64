"""``python -m benchmarks.run SUITE``: the benchmarks of a suite, to one page and one table."""

from benchmarks.run.measure_suite import PAGE, TABLE, SuiteOptions, measure_suite
from featplug.cli.command_line import Unprefixed, run_command
from featplug.io.text_files import read_text


def main(options: Unprefixed[SuiteOptions]) -> None:
    """Measure methods by the benchmarks of a suite, and write one page and one table.

    The same command resumes: features, matches, models and figures of an earlier run in the output
    folder are reused. A method or a benchmark that fails does not stop the others.
    """
    runs, problems = measure_suite(options)
    folder = options.output_dir
    print(read_text(folder / TABLE, "table"))
    for problem in dict.fromkeys([*problems, *(p for run in runs for p in run.problems)]):
        print(f"not measured: {problem.subject}: {problem.reason}")
    print(f"the table is in {folder / TABLE}, the page in {folder / PAGE}")


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.run")
