"""Shift the clock of a process that has this folder in PYTHONPATH, by CLOCK_SKEW_SECONDS.

Only the time of day: the monotonic clock of a machine whose clock is wrong is right.
"""

import os
import sys
import time

SECONDS = float(os.environ.pop("CLOCK_SKEW_SECONDS", "0"))
_time, _time_ns = time.time, time.time_ns

if SECONDS:
    time.time = lambda: _time() + SECONDS
    time.time_ns = lambda: _time_ns() + int(SECONDS * 1e9)
    print(f"the clock is {SECONDS:+g} s off", file=sys.stderr, flush=True)
