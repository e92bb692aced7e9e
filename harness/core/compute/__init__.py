"""How networks are run: eager or compiled, in which precision, and how many images at a time."""

from harness.core.compute.chunks import apply_in_chunks, chunk_size, evaluation_form, gradient_chunk
from harness.core.compute.forms import (
    DTYPES,
    FORMS,
    Batch,
    precision,
    prepare,
    remove_damaged_library,
    resolve,
    resolve_dtype,
    retry_without_damaged_libraries,
    use_device,
)
from harness.core.compute.tracing import second_order_form, trace

__all__ = [
    "DTYPES",
    "FORMS",
    "Batch",
    "apply_in_chunks",
    "chunk_size",
    "evaluation_form",
    "gradient_chunk",
    "precision",
    "prepare",
    "remove_damaged_library",
    "resolve",
    "resolve_dtype",
    "retry_without_damaged_libraries",
    "second_order_form",
    "trace",
    "use_device",
]
