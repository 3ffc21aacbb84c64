"""``python -m featplug.hloc``: the command ``featplug hloc``."""

import sys

from featplug.cli.hloc_command import run_hloc

if __name__ == "__main__":
    run_hloc(sys.argv[1:], prog="python -m featplug.hloc")
