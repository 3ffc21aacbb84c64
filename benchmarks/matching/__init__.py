"""Matching of image pairs whose geometry is known: see ``python -m benchmarks.matching --help``.

``datasets/`` reads pairs and their truth, ``protocols.py`` says by which rules papers measure them,
``measuring.py`` measures one pair, ``run.py`` one feature on one data set.
"""
