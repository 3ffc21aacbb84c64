"""All attacks, or those that are named: ``python -m tests.attacks [NAME …] [--seed S]``."""

import subprocess
import sys
from typing import Annotated

import tyro

ATTACKS = (
    *("kills", "concurrent", "full_disk"),
    *("hdf5", "bit_flips", "colmap_models", "paths"),
    *("lists", "images", "weights", "results"),
)


def main(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ATTACKS,
    trials: int | None = None,
    seed: int = 0,
) -> None:
    """Run attacks, and print their table; the exit code is 1 if there was a fault.

    Args:
        names: Names of the attacks.
        trials: Number of trials of each one; by default as in docs/reliability.md.
        seed: Seed of all of them.
    """
    print("| attack | seed | trials | faults | exit codes | slowest, s | peak, MiB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    options = ["--seed", str(seed), *([] if trials is None else ["--trials", str(trials)])]
    ends = [
        subprocess.run([sys.executable, "-m", f"tests.attacks.{name}", *options], check=False)
        for name in names
    ]
    sys.exit(any(end.returncode for end in ends))


if __name__ == "__main__":
    tyro.cli(main)
