"""Commands from photographs to models and poses."""

import os

# Before torch is imported: keep its threads from spinning while they wait for each other, which
# makes matching several times slower on a shared machine.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import featplug.colmap  # noqa: F401 (keeps SIGTERM from pycolmap, before others import it)
