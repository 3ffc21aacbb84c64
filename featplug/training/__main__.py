"""``python -m featplug.training SYSTEM --images DIR``: train on a folder of photographs."""

from __future__ import annotations

from pathlib import Path

import tyro

from featplug.cli import run_command
from featplug.training.cli.patches import contextdesc, doap
from featplug.training.cli.views import d2net, lisrd, lisrd_sift, mtldesc
from featplug.training.export import export_weights

app = tyro.extras.SubcommandApp()
for command in (contextdesc, d2net, doap, lisrd, lisrd_sift, mtldesc):
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
    print(f"{output}: {output.stat().st_size / 2**20:.1f} MiB")


@dataclass(frozen=True)
class Sets:
    """Where keypoints of several views are found, and how match sets are made of them."""

    groups: Path | None = None
    """File of patch groups, made where it is missing; in the outputs by default."""
    match: MatchSetOptions = field(default_factory=MatchSetOptions)


@app.command
def contextdesc(
    run: tyro.conf.OmitArgPrefixes[Run],
    sets: Sets = Sets(),
    start: Path | None = None,
    start_local: Path | None = None,
    learning_rate: float = 0.1,
    trunk_rate: float = 1.0,
    temperature: float = 1.0,
) -> None:
    """Train ContextDesc (Luo et al., CVPR 2019).

    Args:
        run: where, how long, and how precisely.
        sets: the match sets.
        start: weights of ContextDesc to start from.
        start_local: weights of DOAP for its local network to start from.
        learning_rate: at the start; it falls to 0.
        trunk_rate: its factor for the convolutions of the local network but the last one; 0 keeps
            them as they were at the start, which is sensible and fast with trained ones.
        temperature: of the softmax at the start; it is learned. About 10 with trained weights.
    """
    groups, _ = _patch_files(run, Patches(sets.groups, mine=False))
    options = ContextDescOptions(
        groups,
        run.images,
        start,
        start_local,
        learning_rate,
        trunk_rate,
        temperature,
        sets=sets.match,
    )
    run.train(ContextDescTask(options, run.seed, choose_device(run.device)))


if __name__ == "__main__":
    run_command(app, prog="python -m featplug.training")
