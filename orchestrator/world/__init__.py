"""The outside world as one run sees it: opened once, at the edge."""
