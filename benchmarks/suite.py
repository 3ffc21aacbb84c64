"""The former name of :mod:`benchmarks.run`."""

import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str], prog: str) -> NoReturn:
    """End with the name of the new command, whatever the arguments are."""
    print(
        f"{prog}: is now `featplug bench run SUITE.toml`, whose blocks name the data; "
        "`featplug bench run --help` shows its options.",
        file=sys.stderr,
    )
    sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:], "python -m benchmarks.suite")
