"""How networks are computed: the form, how many images at a time, and what was measured about hardware (`tuning`)."""

from harness.core.compute.chunks import chunk_size, chunked, evaluation_form, gradient_chunk
from harness.core.compute.forms import (
    DTYPES,
    FORMS,
    Batch,
    despite_cut_short,
    fast,
    on,
    precision,
    remove_cut_short,
    resolve,
    resolve_dtype,
)
from harness.core.compute.tracing import second_order_form, trace

__all__ = [
    "DTYPES",
    "FORMS",
    "Batch",
    "chunk_size",
    "chunked",
    "despite_cut_short",
    "evaluation_form",
    "fast",
    "gradient_chunk",
    "on",
    "precision",
    "remove_cut_short",
    "resolve",
    "resolve_dtype",
    "second_order_form",
    "trace",
]
