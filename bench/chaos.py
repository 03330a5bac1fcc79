"""A fleet in chaos, for as long as you like: what breaks, what it cost, and whether a promise was broken.

    python bench/chaos.py [--minutes N] [--seed S] [--pace SECONDS] [--machines N] [--sqlite]

Needs root, and etcd on PATH. The same seed breaks the same things at the same times; the exit code is 1 if a promise
was broken (tests/cell/chaos/model.py says which there are).
"""

import argparse
import logging
import random
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.cell.chaos.run import run

from corral.testing.ending import end_as_by_ctrl_c


def main() -> int:
    """Run once and tell."""
    parser = argparse.ArgumentParser(description="A fleet in chaos.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--pace", type=float, default=4.0, help="seconds between faults")
    parser.add_argument("--machines", type=int, default=4)
    parser.add_argument("--sqlite", action="store_true", help="one server and SQLite, instead of two and etcd")
    chosen = parser.parse_args()
    end_as_by_ctrl_c()
    print(f"seed {chosen.seed}", flush=True)
    # The watchers' connections break all the time; that is the point.
    logging.getLogger("corral.client").setLevel(logging.ERROR)
    say = partial(print, flush=True)
    report = run(
        chosen.seed,
        60 * chosen.minutes,
        pace=chosen.pace,
        machines=chosen.machines,
        replicated=not chosen.sqlite,
        say=say,
    )
    print("\n".join(report.lines()))
    return bool(report.violations)


if __name__ == "__main__":
    raise SystemExit(main())
