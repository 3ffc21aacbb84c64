"""``python -m benchmarks.submit RUN -o NAME.zip``: a run as one file, for a leaderboard."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.record import RECORD, counted
from benchmarks.site.private_names import personal_words
from benchmarks.site.sent_run import data_notes, rejections, run_to_send, write_sent_run
from featplug.cli.command_line import run_command
from featplug.cli.config_file import CONFIG
from featplug.io.typed_json import printable


def main(
    run: tyro.conf.Positional[Path],
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    overwrite: bool = False,
) -> None:
    """Check a benchmark's run, and write one file of it to send to a leaderboard.

    The file has the record, the options and the values of pairs, without the folders of this
    machine; `featplug bench site` takes it.

    Args:
        run: folder of the run.
        output: file to write; by default the name of the folder with .zip.
        overwrite: replace a file that exists.
    """
    sent = run_to_send(run)
    path = Path(f"{sent.name}.zip") if output is None else output
    if path.suffix != ".zip":
        raise ValueError(f"{path} must end with .zip; rename --output.")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists; choose another --output, or replace it by --overwrite.")
    if reasons := rejections(sent.run):
        raise ValueError(f"{run / RECORD if run.is_dir() else run} {'; it '.join(reasons)}.")
    write_sent_run(path, sent)
    rows = sent.run.rows
    methods, protocols = ({getattr(row, key) for row in rows} for key in ("feature", "protocol"))
    size = path.stat().st_size / 1000
    print(
        f"{printable(str(path))} ({size:,.0f} kB): {counted(len(methods), 'method')} by "
        f"{printable(', '.join(sorted(protocols)))}"
    )
    for note in data_notes(sent.run).values():
        print(f"  note: {note}")
    contents = {RECORD: asdict(sent.run), CONFIG: sent.config or ""}
    for word, where in personal_words(contents).items():
        print(f"  note: it has {word!r}, a name of this machine, in {where}; look at it.")


if __name__ == "__main__":
    run_command(main, prog="python -m benchmarks.submit")
