"""``python -m benchmarks.submit RUN -o NAME.zip``: runs as one file, for a leaderboard."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.record import RECORD, Run, counted
from benchmarks.report.runs import find_runs
from benchmarks.site.private_names import personal_words
from benchmarks.site.sent_run import (
    SentRun,
    data_notes,
    rejections,
    run_to_send,
    slug,
    unique,
    write_sent_runs,
)
from featplug.cli.command_line import run_command
from featplug.cli.config_file import CONFIG
from featplug.io.typed_json import printable


def main(
    run: tyro.conf.Positional[Path],
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    overwrite: bool = False,
) -> None:
    """Check runs of benchmarks, and write one file of them to send to a leaderboard.

    The file has the records, the options and the values of pairs, without the folders of this
    machine; `featplug bench site` takes it.

    Args:
        run: folder of a run, or one that contains some, such as that of a suite.
        output: file to write; by default the name of the folder with .zip.
        overwrite: replace a file that exists.
    """
    path = Path(f"{slug(run.resolve().name)}.zip") if output is None else output
    if path.suffix != ".zip":
        raise ValueError(f"{path} must end with .zip; rename --output.")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists; choose another --output, or replace it by --overwrite.")
    folders, _ = find_runs([run])
    runs: dict[str, SentRun] = {}
    for folder in folders:
        sent = run_to_send(folder)
        if reasons := rejections(sent.run):
            raise ValueError(f"{folder / RECORD} {'; it '.join(reasons)}.")
        name = unique(sent.name, runs)
        runs[name] = replace(sent, name=name)
    write_sent_runs(path, list(runs.values()))
    size = path.stat().st_size / 1000
    print(f"{printable(str(path))} ({size:,.0f} kB): {counted(len(runs), 'run')}")
    for sent in runs.values():
        print(f"  {sent.name}: {_summary(sent.run)}")
        for note in data_notes(sent.run).values():
            print(f"    note: {note}")
        contents = {RECORD: asdict(sent.run), CONFIG: sent.config or ""}
        for word, where in personal_words(contents).items():
            print(f"    note: {word!r}, a name of this machine, is left in {where}; look at it.")


def _summary(run: Run) -> str:
    methods = counted(len({row.feature for row in run.rows}), "method")
    protocols = sorted({f"{row.protocol} on {row.dataset}" for row in run.rows})
    more = f" and {len(protocols) - 3} more" if len(protocols) > 3 else ""
    return f"{methods} by {printable(', '.join(protocols[:3]))}{more}"


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.submit")
