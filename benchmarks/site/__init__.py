"""A leaderboard of static pages, and the files by which others add their runs to it."""
