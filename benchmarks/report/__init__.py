"""One page of the runs of benchmarks and pipelines, and their tables in other formats.

Runs become tables (:mod:`benchmarks.report.result_tables`), tables become charts, and all of it
becomes one HTML file.
"""
