"""How long the first step waits: for the compiler on a fresh machine, then for its work on disk.

    python benchmarks/first_step.py

Three processes, one after the other, with an empty compile cache that they share. Printed are wall clock and CPU seconds of
`import recworld`, of `gymnasium.make`, and of the first reset and step.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

PROCESS = """
import time
def clock():
    return time.perf_counter(), time.process_time()
def since(name, start):
    now = clock()
    print(f"  {name:28} {now[0] - start[0]:6.2f} s, CPU {now[1] - start[1]:6.2f} s", flush=True)
start = clock(); import recworld; since("import recworld", start)
import gymnasium
start = clock()
env = gymnasium.make("recworld:recworld/Slate-v0", slate_size=5, disable_env_checker=True)
since("gymnasium.make", start)
start = clock(); env.reset(seed=0); env.step(env.action_space.sample()); since("first reset and step", start)
"""


def main() -> None:
    """Print the times of three processes."""
    with tempfile.TemporaryDirectory() as cache:
        for name in ("empty cache", "cached", "cached again"):
            print(name, flush=True)
            subprocess.run(
                [sys.executable, "-c", PROCESS],
                env={**os.environ, "NUMBA_CACHE_DIR": cache, "OMP_NUM_THREADS": "1"},
                check=True,
            )


if __name__ == "__main__":
    main()
