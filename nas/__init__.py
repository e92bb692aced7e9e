"""Neural architecture search on proxy sets: the search spaces, and the training of one candidate on a small set."""
