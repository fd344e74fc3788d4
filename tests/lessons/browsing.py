"""A JupyterLab and a Chromium for the tests that look at pages.

``CHROMIUM`` names the browser, where it is not found on the path; ``SCREENSHOTS`` a folder that keeps the pictures taken.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minimllm.lessons.server import switch_on

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-sync"]
TOKEN = "token-of-the-browser-test"
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},  # asks in a dialog otherwise
    "notebook-extension/tracker": {"windowingMode": "none"},  # else only the cells in view are on the page
}

READY = """async () => {
  const notebook = window.jupyterapp?.shell?.currentWidget;
  if (!notebook?.sessionContext) return false;
  await notebook.context.ready;
  await notebook.sessionContext.ready;
  return notebook.sessionContext.session?.kernel?.status === 'idle';
}"""
RUN_ALL = "() => jupyterapp.commands.execute('notebook:run-all-cells').then(() => true)"
CELLS = """() => [...jupyterapp.shell.currentWidget.content.model.cells].map(cell => cell.toJSON())
  .filter(cell => cell.cell_type === 'code' && [].concat(cell.source).join('').trim())"""
FINISHED = (
    "() => { const cells = ("
    + CELLS
    + """)();
  return cells.every(cell => cell.execution_count) || cells.some(cell => cell.outputs.some(output => output.output_type === 'error')); }"""
)


BROKEN = "() => [...document.querySelectorAll('.jp-Notebook img')].filter(image => !image.naturalWidth).map(image => image.src)"

in_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found (put it on the path, or name it in CHROMIUM)"),
]
"""The marks of a test that opens a browser."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def running_lab(tmp_path: Path, **environment: str) -> Iterator[tuple[str, Path]]:
    """A JupyterLab with settings of its own over a folder laid out like the project; gives its address and the folder."""
    root = tmp_path / "course"
    (root / "notebooks").mkdir(parents=True)
    shutil.copytree(ROOT / "assets", root / "assets")
    for name, setting in SETTINGS.items():
        file = tmp_path / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(setting))
    switch_on(tmp_path / "environment")
    folders = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}
    folders = {f"JUPYTER_{key}": str(tmp_path / name) for key, name in folders.items()}
    folders["JUPYTER_CONFIG_PATH"] = str(tmp_path / "environment" / "etc" / "jupyter")
    folders |= {"JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces")}
    port = free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    command += [f"--ServerApp.root_dir={root}", f"--IdentityProvider.token={TOKEN}", "--expose-app-in-browser"]
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    log = tmp_path / "lab.log"
    environment = {**os.environ, **folders, **environment}
    with (
        log.open("w") as output,
        subprocess.Popen(command, env=environment, stdout=output, stderr=output) as server,
    ):
        try:
            wait_for_server(server, f"http://127.0.0.1:{port}/api/status?token={TOKEN}", log)
            yield f"http://127.0.0.1:{port}", root
        finally:
            server.terminate()
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()


def wait_for_server(server: subprocess.Popen, address: str, log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert server.poll() is None, f"JupyterLab did not start:\n{log.read_text()}"
            time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not answer within 60 s:\n{log.read_text()}")


@contextmanager
def open_page(**options):
    """A page of a Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, **options)
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def open_notebook(page, address: str, name: str) -> None:
    """The notebook of this file name, in JupyterLab, its kernel ready."""
    page.goto(f"{address}/lab/tree/notebooks/{name}?token={TOKEN}&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function(READY)


def screenshot(page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))
