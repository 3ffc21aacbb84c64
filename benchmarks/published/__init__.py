"""Numbers that papers and authors' repositories print, and comparisons of a run with them."""

from benchmarks.published.fair_comparison import Comparison, compare, context
from benchmarks.published.published_numbers import Published, load_published

__all__ = ["Comparison", "Published", "compare", "context", "load_published"]
