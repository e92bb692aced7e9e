"""Architecture search on proxy sets: search spaces, candidates trained on small sets, and how well these rank them."""
