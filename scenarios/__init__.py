"""Class-incremental streams. Only this package imports Avalanche, which takes seconds: import it when a stream runs."""

import warnings

# What importing Avalanche says of its GEM plugin's solvers, which nothing here uses, depending on how pip installed it.
warnings.filterwarnings("ignore", "no QP solver found", UserWarning)
warnings.filterwarnings("ignore", "JAXopt is no longer maintained", DeprecationWarning)
