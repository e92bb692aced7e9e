"""Class-incremental streams. Only this package imports Avalanche, which takes seconds: import it when a stream runs."""
