"""What a notebook keeps of its widgets when it is saved, and what a kernel starts with."""

import copy
import json
import os
import subprocess
import sys

import pytest

from minimllm.lessons.server import before_saving, rest_idle_threads, switch_on

VIEW = {"application/vnd.jupyter.widget-view+json": {"model_id": "0f"}}


def saved(*outputs, **metadata):
    cells = [{"cell_type": "markdown", "source": "a"}, {"cell_type": "code", "source": "b", "outputs": list(outputs)}]
    model = {"type": "notebook", "content": {"cells": cells, "metadata": metadata}}
    before_saving(model=model, path="mine.ipynb")
    return model["content"]["cells"][1]["outputs"], model["content"]["metadata"]


def test_the_picture_stays_and_the_widget_goes():
    still = {"text/plain": "Explorer at size 5", "text/html": "<img alt='5'>"}
    shown = {"output_type": "display_data", "data": {**VIEW, **still}}
    outputs, metadata = saved(shown, widgets={"state": {}}, language_info={"name": "python"})
    assert outputs == [{"output_type": "display_data", "data": still}] and metadata == {"language_info": {"name": "python"}}


def test_what_is_no_widget_stays_as_it_is():
    others = [
        {"output_type": "stream", "name": "stdout", "text": "x"},
        {"output_type": "error", "ename": "E", "evalue": "", "traceback": []},
        {"output_type": "display_data", "data": {"image/png": "aa", "text/plain": "<Figure>"}},
        {"output_type": "display_data", "data": dict(VIEW)},  # with nothing beside it, an empty output would be no better
    ]
    assert saved(*copy.deepcopy(others))[0] == others


def test_files_and_folders_pass():
    for model in ({"type": "file", "content": "cells"}, {"type": "directory", "content": None}, {"type": "notebook"}):
        before = copy.deepcopy(model)
        before_saving(model=model, path="x")
        assert model == before


def test_it_is_switched_on_for_an_environment(tmp_path):
    file = switch_on(tmp_path)
    assert file == switch_on(tmp_path) and file.parent == tmp_path / "etc" / "jupyter" / "jupyter_server_config.d"
    assert json.loads(file.read_text()) == {"ServerApp": {"jpserver_extensions": {"minimllm.lessons.server": True}}}


KERNEL = """import os, sys
sys.prefix = sys.argv[1]  # the environment whose configuration is read
from ipykernel.kernelapp import IPKernelApp
IPKernelApp.instance().initialize(["-f", os.path.join(sys.argv[1], "connection.json")])
open(sys.argv[2], "w").write(f"{os.environ['OMP_WAIT_POLICY']} {'torch' in sys.modules} {IPKernelApp.instance().shell.user_ns.keys()}")
os._exit(0)
"""


@pytest.mark.parametrize(("given", "found"), [(None, "passive"), ("active", "active")])
def test_a_kernel_starts_with_threads_that_rest_before_torch_whatever_started_it(tmp_path, given, found):
    rest_idle_threads(tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"IPYTHONDIR": str(tmp_path / "ipython")} | ({"OMP_WAIT_POLICY": given} if given else {})
    said = tmp_path / "said"
    ran = subprocess.run([sys.executable, "-c", KERNEL, tmp_path, said], env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    policy, torch, names = said.read_text().split(maxsplit=2)
    assert (policy, torch) == (found, "False") and "'os'" not in names, "nothing is left behind in the learner's namespace"


def test_a_configuration_of_kernels_that_is_there_already_is_kept(tmp_path):
    file = tmp_path / "etc" / "ipython" / "ipython_kernel_config.py"
    file.parent.mkdir(parents=True)
    file.write_text("c = get_config()")
    assert rest_idle_threads(tmp_path) == rest_idle_threads(tmp_path) == file
    first, second = file.read_text().splitlines()
    assert first == "c = get_config()" and "OMP_WAIT_POLICY" in second
