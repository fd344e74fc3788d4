"""What a notebook keeps of its widgets when it is saved."""

import copy
import json

from minimllm.lessons.server import before_saving, switch_on

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
