"""``python -m featplug.training SYSTEM --images DIR``: train on a folder of photographs."""

from featplug.cli.command_line import run_command
from featplug.cli.program import TRAIN

if __name__ == "__main__":
    run_command(TRAIN, prog="python -m featplug.training")
