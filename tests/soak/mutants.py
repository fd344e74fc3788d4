"""Plants errors in a copy of the project, one at a time, and runs the tests of its floor: which ones do they notice?

``python tests/soak/mutants.py`` plants 110 over all floors, ``--count 20 --floor layers`` as many on one, ``--seed 3`` others, and
``--only 7 12`` these of them again. The one that survives is told with what was changed; at the end, how many were caught.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}

from soak.mutation import KINDS, Mutant, mutants  # noqa: E402  (after the path)

ROOT = HERE.parents[1]
PACKAGE = "minimllm"
FLOORS = ("layers", "data", "weights", "inference", "training", "models", "inspection", "figures", "exercises", "widgets", "lessons")
OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not browser and not long"]
LEAST = 0.95


@dataclass(frozen=True)
class Planted:
    """A mutant and the file, as a path in the project, that it is planted in."""

    number: int
    floor: str
    file: Path
    mutant: Mutant
    source: str

    def __str__(self) -> str:
        before = " ".join(self.mutant.before.split())
        return f"{self.number}: {self.file}:{self.mutant.line}, {self.mutant.kind}: {before} -> {self.mutant.after}"


def choose(root: Path, count: int, seed: int, floors: tuple[str, ...] = FLOORS) -> list[Planted]:
    """Floor by floor in turn; on a floor, each file by its length and each kind of error that it can hold as likely as the others."""
    chosen, possible, draw = [], {}, random.Random(seed)
    files = {floor: sorted(file for file in (root / PACKAGE / floor).rglob("*.py") if file.name != "__init__.py") for floor in floors}
    for number in range(count):
        floor = floors[number % len(floors)]
        for _ in range(100):
            file = draw.choices(files[floor], [each.stat().st_size for each in files[floor]])[0]
            source = file.read_text(encoding="utf-8")
            if file not in possible:
                possible[file] = mutants(source)
            kind = draw.choice(KINDS)
            some = [each for each in possible[file] if each.kind == kind]
            if some and (changed := (mutant := draw.choice(some)).plant(source)):
                possible[file].remove(mutant)
                chosen.append(Planted(number, floor, file.relative_to(root), mutant, changed))
                break
    return chosen


class Copy:
    """A copy of the project to plant in: what git tracks, so that nothing of the project itself is in reach of a planted error."""

    def __init__(self, root: Path, place: Path):
        self.place = place
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
        for name in filter(None, tracked.split("\0")):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, place / name)

    def tests(self, floor: str, module: Path | None) -> list[str]:
        """The test files of a floor, those first that name the module and are short."""
        words = [word for word in re.split(r"\W|_", module.stem)] if module else []

        def likely(file: Path) -> tuple:
            return -sum(word in file.stem for word in words), module is None or module.stem not in file.read_text(), file.stat().st_size

        return [str(file) for file in sorted((self.place / "tests" / floor).glob("test_*.py"), key=likely)]

    def run(self, planted: Planted | None, floor: str, seconds: float) -> tuple[str, float, str]:
        """What came of it, "caught", "survived" or "ran out of time"; how long it took; what pytest said."""
        file = self.place / planted.file if planted else None
        before = file.read_text(encoding="utf-8") if planted else ""
        try:
            if planted:
                file.write_text(planted.source, encoding="utf-8")
            return self.forked(self.tests(floor, planted and planted.file), seconds)
        finally:
            if planted:
                file.write_text(before, encoding="utf-8")

    def forked(self, tests: list[str], seconds: float) -> tuple[str, float, str]:
        log, started = self.place / "said.txt", time.monotonic()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            test(self.place, tests, log)
        while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() - started < seconds:
            time.sleep(0.1)
        if not ended[0]:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "ran out of time", seconds, ""
        said = log.read_text(errors="replace")
        return "survived" if ended[1] == 0 else "caught", time.monotonic() - started, said


def test(place: Path, tests: list[str], log: Path) -> None:
    """In the child, which never comes back from here: pytest, in the copy."""
    code = 1
    try:
        os.setsid()
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 1)
        os.dup2(1, 2)
        os.chdir(place)
        os.environ["PYTHONPATH"] = str(place)
        sys.path[:] = [str(place), *(path for path in sys.path if Path(path or ".").resolve() != ROOT)]
        sys.path.remove(str(HERE.parent))
        import pytest

        code = int(pytest.main([*OPTIONS, *tests]))
    finally:
        sys.stdout.flush()
        os._exit(code)


def preload() -> None:
    """What every child would spend seconds on; not the package itself, which is another in every child."""
    import matplotlib.pyplot  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torch
    import torchvision  # noqa: F401
    import transformers

    torch.set_num_threads(1)
    for name in ("ViTForImageClassification", "CLIPModel", "LlamaForCausalLM", "LlavaForConditionalGeneration", "MllamaConfig"):
        getattr(transformers, name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=110)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--floor", choices=FLOORS, action="append", help="this one alone; may be given again")
    parser.add_argument("--only", type=int, nargs="+", help="the mutants of these numbers")
    parser.add_argument("--list", action="store_true", help="name them, run nothing")
    chosen = parser.parse_args()
    planted = choose(ROOT, chosen.count, chosen.seed, tuple(chosen.floor or FLOORS))
    planted = [each for each in planted if chosen.only is None or each.number in chosen.only]
    if not planted:
        parser.error(f"no mutant has one of the numbers {chosen.only}; --list names them")
    if chosen.list:
        print(*planted, sep="\n")
        return 0
    preload()
    with tempfile.TemporaryDirectory(prefix="minimllm-mutants-") as place:
        return report(Copy(ROOT, Path(place)), planted)


def report(copy: Copy, planted: list[Planted]) -> int:
    """Run them floor by floor, each floor first as it is, and say what came of it."""
    outcomes: Counter = Counter()
    survivors = []
    for floor in dict.fromkeys(each.floor for each in planted):
        outcome, seconds, said = copy.run(None, floor, 3600)
        print(f"{floor}: without an error its tests take {seconds:.0f} s", flush=True)
        if outcome != "survived":
            print(f"and fail, so that nothing can be learned from them:\n{said[-3000:]}")
            return 1
        for each in (each for each in planted if each.floor == floor):
            outcome, took, _ = copy.run(each, floor, 60 + 3 * seconds)
            outcomes[floor, outcome != "survived"] += 1
            survivors += [each] if outcome == "survived" else []
            print(f"{outcome:16} {took:4.0f} s  {each}", flush=True)
    caught, missed = sum(number for (_, seen), number in outcomes.items() if seen), len(survivors)
    for floor in dict.fromkeys(floor for floor, _ in outcomes):
        print(f"{floor:11} {outcomes[floor, True]} of {outcomes[floor, True] + outcomes[floor, False]} caught")
    print(
        f"{caught} of {caught + missed} caught ({caught / (caught + missed):.0%}; at least {LEAST:.0%} are wanted). Survived:",
        *survivors,
        sep="\n  ",
    )
    return int(caught < LEAST * (caught + missed))


if __name__ == "__main__":
    sys.exit(main())
