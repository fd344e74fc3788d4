"""A real JupyterLab in a real Chromium: lesson 01 runs, its slider is moved by keyboard, the picture changes; lesson 10's chat answers.

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
from pathlib import Path

import nbformat
import pytest

from minimllm.lessons.copies import ready_to_open
from minimllm.lessons.server import switch_on

ROOT = Path(__file__).resolve().parents[2]
LESSON = ROOT / "notebooks" / "01_patches.ipynb"
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
PICTURE = "handle => handle.closest('.jp-OutputArea-output').querySelector('img')?.src"
CHANGED = "([handle, before]) => { const now = (" + PICTURE + ")(handle); return now && now !== before; }"
LOADED = "handle => { const image = handle.closest('.jp-OutputArea-output').querySelector('img'); return image.naturalWidth > 100; }"
BROKEN = "() => [...document.querySelectorAll('.jp-Notebook img')].filter(image => !image.naturalWidth).map(image => image.src)"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found (put it on the path, or name it in CHROMIUM)"),
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def lab(tmp_path) -> Iterator[tuple[str, Path]]:
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
    with log.open("w") as output, subprocess.Popen(command, env={**os.environ, **folders}, stdout=output, stderr=output) as server:
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


@pytest.fixture
def page(tmp_path):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def without_outputs(lesson: Path, copy: Path) -> int:
    """Copies a lesson as if never run, so that what is seen was made here; gives the number of its code cells."""
    notebook = nbformat.read(lesson, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, copy)
    return len([cell for cell in code if cell.source.strip()])


def test_lesson_runs_in_the_browser_and_its_picture_follows_the_slider(lab, page):
    address, root = lab
    failures = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    count = without_outputs(LESSON, root / "notebooks" / LESSON.name)
    page.goto(f"{address}/lab/tree/notebooks/{LESSON.name}?token={TOKEN}&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function(READY)

    assert page.evaluate(RUN_ALL)
    page.wait_for_function(FINISHED, timeout=180_000)
    cells = page.evaluate(CELLS)
    assert [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"] == []
    assert [cell["execution_count"] for cell in cells] == list(range(1, count + 1))

    slider = page.locator(".jp-OutputArea-output .jupyter-widgets .noUi-handle").first
    slider.scroll_into_view_if_needed()
    handle = slider.element_handle()
    page.wait_for_function(PICTURE, arg=handle)
    before = page.evaluate(PICTURE, handle)
    at = slider.get_attribute("aria-valuenow")
    for key in ("ArrowRight", "ArrowLeft"):  # there and back, wherever on its way the slider starts
        slider.focus()
        slider.press(key)
        if slider.get_attribute("aria-valuenow") != at:
            break
    assert slider.get_attribute("aria-valuenow") != at, "the slider does not follow the arrow keys"
    page.wait_for_function(CHANGED, arg=[handle, before])
    page.wait_for_function(LOADED, arg=handle)

    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{LESSON.stem}.png"))
    assert page.evaluate(BROKEN) == [], "pictures that could not be loaded"
    assert failures == []


def test_slider_whose_picture_does_not_change_would_be_noticed(lab, page):
    """The same steps on a notebook whose drawing ignores its control: the picture stays, and the wait for a change ends in vain."""
    from playwright.sync_api import TimeoutError as NoChange

    source = 'import ipywidgets\npicture = ipywidgets.HTML(\'<img alt="dot" src="data:image/gif;base64,'
    source += "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7\">')\nipywidgets.VBox([ipywidgets.IntSlider(3), picture])"
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)], metadata={"kernelspec": kernel})
    address, root = lab
    nbformat.write(notebook, root / "notebooks" / "still.ipynb")
    page.goto(f"{address}/lab/tree/notebooks/still.ipynb?token={TOKEN}&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function(READY)
    assert page.evaluate(RUN_ALL)
    handle = page.locator(".jp-OutputArea-output .noUi-handle").first.element_handle()
    page.wait_for_function(PICTURE, arg=handle)
    before = page.evaluate(PICTURE, handle)
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("handle => handle.getAttribute('aria-valuenow') === '4.0'", arg=handle)
    with pytest.raises(NoChange):
        page.wait_for_function(CHANGED, arg=[handle, before], timeout=2_000)


def test_a_saved_notebook_shows_its_widgets_picture_when_it_is_opened_again(lab, page):
    """Run, save, shut the kernel down, open again: in place of the widget stands its picture, and not that a model was not found."""
    source = """from minimllm import figures, widgets
widgets.explore(lambda size: figures.matrix([[size, 2], [3, 4]]), lambda size: f"a matrix that begins with {size}", size=[5, 6, 7])"""
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    address, root = lab
    file = root / "notebooks" / "mine.ipynb"
    nbformat.write(
        ready_to_open(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)], metadata={"kernelspec": kernel})), file
    )
    page.goto(f"{address}/lab/tree/notebooks/mine.ipynb?token={TOKEN}&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function(READY)
    page.wait_for_function("() => jupyterapp.shell.currentWidget.model.getMetadata('language_info')?.version")
    assert not page.evaluate("() => jupyterapp.shell.currentWidget.model.dirty"), "opening a learner's copy is no change"
    assert page.evaluate(RUN_ALL)
    page.wait_for_selector(".jp-OutputArea-output .noUi-handle")
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save').then(() => true)")
    assert page.locator(".jp-OutputArea-output .noUi-handle").count() == 1, "saving leaves the page alone"
    assert "widget-view+json" not in file.read_text() and "a matrix that begins with 5" in file.read_text()
    page.evaluate("() => jupyterapp.commands.execute('kernelmenu:shutdown').then(() => true)")
    page.goto(f"{address}/lab/tree/notebooks/mine.ipynb?token={TOKEN}&reset")
    picture = page.locator('.jp-OutputArea-output img[alt="a matrix that begins with 5"]')
    picture.wait_for()
    assert "Run this cell to move the controls" in page.locator(".jp-OutputArea-output").inner_text()
    assert page.get_by_text("model not found").count() == 0 and page.evaluate(BROKEN) == []


CHAT = """import transformers
from minimllm import LanguageModel, released, widgets
folder = released("smollm2-135m-instruct")
chat = widgets.chat(LanguageModel.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder), max_new_tokens=30)
chat"""
SAID = "() => document.querySelector('.jp-OutputArea-output .minimllm-chat')?.textContent ?? ''"
LONGER = f"before => {{ const said = ({SAID})(); return said.length > before.length && said.includes('▌'); }}"
WRITTEN = f"words => {{ const said = ({SAID})(); return said.includes(words) && !said.includes('▌'); }}"


def test_chat_answers_as_it_writes_by_enter_and_by_the_button(lab, page):
    address, root = lab
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CHAT)], metadata={"kernelspec": kernel})
    nbformat.write(notebook, root / "notebooks" / "chat.ipynb")
    page.goto(f"{address}/lab/tree/notebooks/chat.ipynb?token={TOKEN}&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function(READY)
    assert page.evaluate(RUN_ALL)
    page.wait_for_function(FINISHED, timeout=180_000)
    field = page.locator(".jp-OutputArea-output .widget-text input[placeholder^='Enter']")
    button = page.locator(".jp-OutputArea-output button", has_text="Send")

    for words, send in (("What is the capital of France?", lambda: field.press("Enter")), ("Tell me about zebras.", button.click)):
        field.fill(words)
        send()
        seen = [""]
        while len(seen) < 4:  # the answer is longer each time while it is being written
            page.wait_for_function(LONGER, arg=seen[-1], timeout=120_000)
            seen.append(page.evaluate(SAID))
        page.wait_for_function(WRITTEN, arg=words, timeout=180_000)
        assert field.input_value() == ""
    said = page.evaluate(SAID)
    assert said.index("you: What is the capital of France?") < said.index("Paris") < said.index("you: Tell me about zebras.")
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / "chat.png"))
