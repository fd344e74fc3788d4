"""A sample of the soak, each kind of malformed input and of killing once; ``make soak`` runs it whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork and no SIGKILL")
@pytest.mark.parametrize("suite", ["pictures", "folders", "gguf", "killing"])
def test_each_kind_is_refused_by_name_or_right(suite):
    ran = subprocess.run([sys.executable, PROGRAM, "--sample", suite], capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
