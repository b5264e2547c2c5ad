"""`python -m tests.fuzz`: sends raw hostile bytes to the service's listeners, for a given time.

Needs an engine in $DOCKER_HOST, which it only reads. It prints its seed; the same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.attack import CONNECTIONS_A_BATCH, attack, run


def main() -> int:
    """Run; returns 0 if the service withstood it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--first", type=int, default=0, help="number of the first batch")
    parser.add_argument("--batches", type=int, help="how many batches; as many as there is time for")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds:.0f} s", flush=True)
    numbers = itertools.count(options.first)
    limited = numbers if options.batches is None else itertools.islice(numbers, options.batches)
    with tempfile.TemporaryDirectory(prefix="cm-fuzz-") as directory:
        secrets = Path(directory) / "secrets"
        secrets.mkdir()
        try:
            with attack(os.environ["DOCKER_HOST"], secrets, Path(directory), options.seed) as attacked:
                done = run(attacked, limited, options.seconds)
                memory = attacked.memory() >> 20
        except AssertionError as exc:
            print(f"FAILED: {exc}", file=sys.stderr)
            return 1
    print(
        f"{done} batches of {CONNECTIONS_A_BATCH} connections: it lives, answers (at most "
        f"{attacked.slowest_seconds * 1000:.0f} ms for a status), and holds no more than before ({memory} MB)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
