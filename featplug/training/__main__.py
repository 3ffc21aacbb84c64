"""``python -m featplug.training SYSTEM --images DIR``: train on a folder of photographs."""

from __future__ import annotations

import sys
from pathlib import Path

import tyro

from featplug.base import choose_device
from featplug.cli import run_command
from featplug.images import list_images
from featplug.training.export import export_weights

try:
    from featplug.training.cli.patches import contextdesc, doap
    from featplug.training.cli.tune import tune
    from featplug.training.cli.views import d2net, lisrd, lisrd_sift, mtldesc
    from featplug.training.shift import ShiftOptions, choose_shift, shift_weights
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
    export_weights(run, output, licence, half)
    precision = "float16" if half else "float32"
    print(f"{output}: {precision}, {output.stat().st_size / 2**20:.1f} MiB")


@app.command
def shift(
    feature: str,
    weights: Path,
    images: Path,
    output: Path,
    num_pairs: int = 24,
    device: str | None = None,
) -> None:
    """Shift trained descriptors of patches so that points without counterpart match less often.

    Args:
        feature: doap, doap-binary, contextdesc or a variant.
        weights: file of it.
        images: folder of the photographs it was trained on.
        output: the safetensors file.
        num_pairs: of views, on which the length of the shift is chosen.
        device: such as cpu or cuda:1; the best one by default.
    """
    options = ShiftOptions(num_pairs=num_pairs)
    chosen, scores = choose_shift(
        feature, weights, images, list_images(images), options, choose_device(device)
    )
    shift_weights(feature, weights, output, chosen)
    best = max(scores, key=lambda score: score.f_measure)
    for score in scores:
        mark = "  chosen" if score is best else ""
        print(f"{score.length:g}: precision {score.precision:.3f}, recall {score.recall:.3f}{mark}")
    print(output)


if __name__ == "__main__":
    run_command(app, prog="python -m featplug.training")
