"""Image pairs whose geometry is known, and the matches that methods find on them.

``datasets/`` reads pairs and their truth, ``pair_benchmark.py`` measures methods on a data set by
the protocols of :mod:`benchmarks.matching` or :mod:`benchmarks.relative_pose`.
"""
