"""Limits NumPy to one thread per matrix product. It must be imported before NumPy.

The other threads of OpenBLAS wait in a loop for their next work, which takes the processors of PostgreSQL and of the
models: a bulk enrolment used four times the processor time. Inference engines have their own threads.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
