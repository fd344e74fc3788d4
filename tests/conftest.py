"""What holds for every test: shapes are checked at run time, and there is no network, in this process or in a lesson's kernel."""

import os
import shutil
import tempfile

import pytest
from jaxtyping import install_import_hook

os.environ["OMP_WAIT_POLICY"] = "passive"  # before torch: idle threads give the processor back instead of spinning
os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub, which reads it once

# Every annotation such as Float[Tensor, "batch patches dim"] in the package is checked on every call of the tests.
install_import_hook("minimllm", "typechecking.check")

from minimllm.lessons.offline import deny_network, kernel_environment  # noqa: E402  (after the hook)

_IPYTHON = tempfile.mkdtemp(prefix="minimllm-ipython-")


def pytest_configure(config) -> None:
    """nbval's kernels, and those of the JupyterLab under test, start with this environment."""
    deny_network()
    os.environ.update(kernel_environment(_IPYTHON))


def pytest_collection_modifyitems(items) -> None:
    """A name with an address in it is another one in each process, and no two workers would have the same tests."""
    moving = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if moving:
        raise pytest.UsageError(f"{moving[0]}: its name holds an address of memory; give the parameters ids of their own")


def pytest_unconfigure(config) -> None:
    shutil.rmtree(_IPYTHON, ignore_errors=True)
