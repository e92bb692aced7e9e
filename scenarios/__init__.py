"""Class-incremental streams. Only this package imports Avalanche, which takes seconds, when a stream is run."""

import warnings

# Avalanche warns about solvers of its GEM plugin when it is imported. Nothing here uses them.
warnings.filterwarnings("ignore", "no QP solver found", UserWarning)
warnings.filterwarnings("ignore", "JAXopt is no longer maintained", DeprecationWarning)
