"""The outside world of a run, chosen once at the edge; and what one process keeps open of it."""
