"""Acceptance: the data sets and checkpoints of a folder, measured and compared with the papers.

``found_data.py`` recognises the data sets, ``acceptance_plan.py`` plans a suite of what the papers
publish on them, :mod:`benchmarks.run` measures it, and ``verdicts.py`` compares.
"""
