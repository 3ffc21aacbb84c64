"""HTML pages that open offline: the page of a run, and what it shares with other pages."""
