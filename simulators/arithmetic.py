"""How the functions of the compiled step are compiled."""

from __future__ import annotations

from numba import njit

from recworld.simulators.lanes import FLAGS

inner = njit(
    nogil=True,
    fastmath=set(FLAGS),
    error_model="numpy",
    _nrt=False,
    no_cpython_wrapper=True,
    no_cfunc_wrapper=True,
)
"""Inner functions allocate nothing, so the reference counting of arrays is off (`_nrt`): it costs more than the step."""
