"""The fixtures of the browser tests."""

import pytest
from browsing import open_page, running_lab


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab over a folder laid out like the project; gives its address and the folder."""
    with running_lab(tmp_path) as started:
        yield started


@pytest.fixture
def page():
    with open_page() as opened:
        yield opened
