"""``featplug`` and ``python -m featplug``."""

from __future__ import annotations

from featplug.cli import app, run_command


def main() -> None:
    """Run the command line."""
    run_command(app, prog="featplug")


if __name__ == "__main__":
    main()
