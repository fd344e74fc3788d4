"""The planted errors: each kind is made as it says, what no test need notice is left alone, and a test that looks catches what one misses
that does not.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from soak.mutants import choose
from soak.mutation import KINDS, mutants

SOURCE = '''"""Words 1 < 2."""
import math

class Config:
    """More words."""
    size: int = 3
    fast: bool = False

def half(values, cut=0, *, start: int = 1 + 1):
    """Words -1."""
    total = values[cut:].sum(dim=-1, keepdim=True)
    if total < 0 or cut:
        raise ValueError(f"{total + 1} is below {-1}")
    return math.fsum(total, -start) if cut else total
'''
EXPECTED = {
    ("default", "3", "7"),
    ("default", "False", "True"),
    ("default", "0", "1"),
    ("axis", "-1", "-2"),
    ("sign", "-1", "1"),
    ("sign", "-start", "start"),
    ("comparison", "total < 0", "total <= 0"),
    ("branch", "total < 0 or cut", "total < 0 and cut"),
    ("branch", "math.fsum(total, -start) if cut else total", "total if cut else math.fsum(total, -start)"),
    ("swapped arguments", "math.fsum(total, -start)", "math.fsum(-start, total)"),
    ("dropped call", "math.fsum(total, -start)", "total"),
    ("dropped argument", "values[cut:].sum(dim=-1, keepdim=True)", "values[cut:].sum(keepdim=True)"),
    ("neighbour", "values", "cut"),
    ("number", "0", "1"),
}


def test_every_kind_is_planted_as_it_says_and_words_and_refusals_are_left_alone():
    found = mutants(SOURCE)
    assert EXPECTED <= {(each.kind, each.before, each.after) for each in found}
    assert {each.kind for each in found} == set(KINDS)
    assert not {each.line for each in found} & {1, 5, 10, 13}
    for each in found:
        assert SOURCE[each.start :].startswith(each.before)
        if changed := each.plant(SOURCE):
            assert changed != SOURCE and len(changed.splitlines()) == len(SOURCE.splitlines())
            assert changed.replace(f"({each.after})", each.before, 1) == SOURCE or changed.count(f"({each.after})") > 1


def test_change_that_says_the_same_or_nothing_is_none():
    (sign, *_) = [each for each in mutants("x = f(1, 1)") if each.kind == "swapped arguments"]
    assert sign.plant("x = f(1, 1)") is None


def test_the_choice_is_the_seeds_goes_over_all_floors_and_repeats_nothing():
    root = Path(__file__).resolve().parents[2]
    chosen = choose(root, 33, seed=5)
    assert chosen == choose(root, 33, seed=5) != choose(root, 33, seed=6)
    assert len({each.floor for each in chosen}) == 11 and len({(each.file, each.source) for each in chosen}) == 33


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_what_a_test_looks_at_is_caught_and_what_none_looks_at_survives(tmp_path):
    """In a process of its own, which has not loaded this package: a small project, of whose two functions one is tested."""
    root, place = tmp_path / "root", tmp_path / "place"
    for folder in (root / "minimllm" / "layers", root / "tests" / "layers", place):
        folder.mkdir(parents=True)
    functions = [f"def {name}(a, b):\n    return a {sign} b\n" for name, sign in (("plus", "+"), ("minus", "-"))]
    (root / "minimllm" / "layers" / "sums.py").write_text("\n\n".join(functions))
    test = "from minimllm.layers.sums import plus\n\n\ndef test_plus():\n    assert plus(2, 3) == 5\n"
    (root / "tests" / "layers" / "test_sums.py").write_text(test)
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\nmarkers = ['browser', 'long']\n")
    for command in (("init", "-q"), ("add", "--all")):
        subprocess.run(["git", *command], cwd=root, check=True)
    (root / "my_own.txt").write_text("not tracked")
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from soak.mutants import Copy, choose
root, place = Path({str(root)!r}), Path({str(place)!r})
copy = Copy(root, place)
assert not (place / "my_own.txt").exists()
print(copy.run(None, "layers", 300)[0])
for each in choose(root, 4, 0, ("layers",)):
    print(each.mutant.line, copy.run(each, "layers", 300)[0])
print((place / "minimllm/layers/sums.py").read_text() == (root / "minimllm/layers/sums.py").read_text())
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600, cwd=root, env=environment)
    assert ran.returncode == 0, ran.stderr
    first, *middle, last = ran.stdout.splitlines()
    assert (first, last) == ("survived", "True"), ran.stderr
    assert set(middle) == {"2 caught", "6 survived"}
