"""The command: `python -m tests.chaos --minutes 5 --seed 1`, and `--only SEED` for one transfer alone."""

from __future__ import annotations

import argparse
import faulthandler
import random
import sys
import time

from tests.chaos.plan import make_plan
from tests.chaos.run import Run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to begin new transfers (1)")
    parser.add_argument("--seed", type=int, help="repeat a run: the same transfers in the same order (random)")
    parser.add_argument("--only", type=int, metavar="SEED", help="one transfer, by the seed that was printed for it")
    given = parser.parse_args()
    faulthandler.enable()
    seed = random.SystemRandom().getrandbits(32) if given.seed is None else given.seed
    run, began = Run(seed, lambda line: print(line, flush=True)), time.monotonic()
    if given.only is not None:
        print(make_plan(given.only))
        counters = run.only(given.only)
    else:
        print(f"seed          {seed}: python -m tests.chaos --seed {seed}", flush=True)
        counters = run.for_seconds(60 * given.minutes)
    for line in counters.lines():
        print(line)
    print(f"seconds       {time.monotonic() - began:.0f}")
    return 0 if counters.clean else 1


if __name__ == "__main__":
    sys.exit(main())
