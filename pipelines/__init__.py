"""Commands that run the whole way: photographs to models and poses."""

import os

# Before torch is imported: threads that wait for each other asleep. On a machine that is shared
# they otherwise spin, and matching takes several times its share.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
