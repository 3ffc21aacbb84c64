"""Commands that run the whole way: photographs to models and poses."""

import os

# Before torch is imported: its threads shall not spin for long while they wait for each other. On a
# machine that is shared, matching otherwise takes several times its share.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
