"""One HTML page of the runs of benchmarks and pipelines, and their tables in other formats."""
