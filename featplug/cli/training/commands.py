"""The table of the commands of ``featplug train``."""

from __future__ import annotations

from pathlib import Path

from featplug.cli.training.from_patches import contextdesc, doap
from featplug.cli.training.from_views import d2net, lisrd, lisrd_sift, mtldesc
from featplug.cli.training.tuning import tune
from featplug.training.export import export_weights


def export(run: Path, output: Path, licence: str = "Apache-2.0", half: bool = True) -> None:
    """Write the best weights of a run as a file to share.

    Args:
        run: folder of the run.
        output: safetensors file to write.
        licence: licence of the weights, which is kept in the file.
        half: round the weights to float16.
    """
    step = export_weights(run, output, licence, half)
    precision = "float16" if half else "float32"
    print(f"{output}: step {step}, {precision}, {output.stat().st_size / 2**20:.1f} MiB")


COMMANDS = {
    "contextdesc": contextdesc,
    "d2net": d2net,
    "doap": doap,
    "lisrd": lisrd,
    "lisrd-sift": lisrd_sift,
    "mtldesc": mtldesc,
    "tune": tune,
    "export": export,
}
"""The commands of ``featplug train``."""
