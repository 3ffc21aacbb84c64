"""``python -m featplug.training SYSTEM --images DIR``: train on a folder of photographs."""

from __future__ import annotations

import sys
from pathlib import Path

import tyro

from featplug.cli.runner import run_command
from featplug.training.export import export_weights

try:
    from featplug.cli.training.from_patches import contextdesc, doap
    from featplug.cli.training.from_views import d2net, lisrd, lisrd_sift, mtldesc
    from featplug.cli.training.tuning import tune
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] != "kornia":
        raise
    message = "kornia is missing; run `pip install 'featplug[train]'`."
    print(f"python -m featplug.training: {message}", file=sys.stderr)
    sys.exit(2)

app = tyro.extras.SubcommandApp()
for command in (contextdesc, d2net, doap, lisrd, lisrd_sift, mtldesc, tune):
    app.command(command)


@app.command
def export(run: Path, output: Path, licence: str = "Apache-2.0", half: bool = True) -> None:
    """Write the best weights of a run as a file to give away.

    Args:
        run: folder of the run.
        output: the safetensors file.
        licence: of the weights, which is kept in the file.
        half: round them to float16.
    """
    step = export_weights(run, output, licence, half)
    precision = "float16" if half else "float32"
    print(f"{output}: step {step}, {precision}, {output.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    run_command(app, prog="python -m featplug.training")
