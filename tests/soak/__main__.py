"""The soak: malformed pictures, malformed folders, malformed GGUF files, and processes that are killed.

``python tests/soak`` runs all of it, ``python tests/soak --sample`` each kind once, ``python tests/soak pictures 17 18`` these cases alone.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from importlib import import_module
from pathlib import Path

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}  # before torch: threads do not survive forking
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from soak import pool  # noqa: E402  (after the path)

SUITES = {
    "pictures": "soak.picture_checks",
    "folders": "soak.folder_checks",
    "gguf": "soak.gguf_checks",
    "killing": "soak.killing",
    "several": "soak.several",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", nargs="?", choices=SUITES, help="one of them alone")
    parser.add_argument("seeds", nargs="*", type=int, help="these cases alone")
    parser.add_argument("--sample", action="store_true", help="each kind once")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    chosen = parser.parse_args()
    faults = 0
    for name in [chosen.suite] if chosen.suite else SUITES:
        faults += suite(name, chosen.seeds, chosen.sample, chosen.jobs)
    return min(faults, 1)


def suite(name: str, seeds: list[int], sample: bool, jobs: int) -> int:
    """Run it and say what came of it; the number of faults."""
    started, checks = time.monotonic(), import_module(SUITES[name])
    with tempfile.TemporaryDirectory(prefix="minimllm-soak-") as place:
        checks.prepare(Path(place))
        every = range(min(checks.COUNT, len(checks.KINDS)) if sample else checks.COUNT)
        results = []
        for result in pool.run(name, seeds or every, checks.run, Path(place), jobs):
            results.append(result)
            if result.fault:
                told = result.fault.strip().replace("\n", "\n    ")
                print(f"FAULT: {result.kind}; again alone: python tests/soak {name} {result.seed}\n    {told}\n", flush=True)
    outcomes = sum((result.outcomes for result in results), Counter())
    faults = [result for result in results if result.fault]
    slow, large = max(results, key=lambda result: result.slowest), max(results, key=lambda result: result.megabytes)
    print(
        f"{name}: {len(results)} cases of {len({result.kind for result in results})} kinds, {outcomes['right']} calls came out right and "
        f"{outcomes['refused']} were refused by name, {len(faults)} faults, in {time.monotonic() - started:.0f} s; the longest call took "
        f"{slow.slowest:.2f} s of the processor (seed {slow.seed}), the largest case {large.megabytes:.0f} MB (seed {large.seed})",
        flush=True,
    )
    return len(faults)


if __name__ == "__main__":
    sys.exit(main())
