"""The lessons as web pages, to be read without Python and without a network: ``python -m minimllm.lessons.site``, or ``make site``.

nbconvert turns each lesson as it is stored, and the README as the front page, into HTML under ``site/``. The pages load nothing from
elsewhere and need no script: formulas become MathML, which browsers draw themselves (nbconvert would fetch MathJax from a server);
widgets appear as the still picture that each output holds; the pictures and files that a page links to are copied beside it.
"""

import html
import re
import shutil
import sys
from pathlib import Path, PurePosixPath

from bs4 import BeautifulSoup
from latex2mathml.converter import convert
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook

from minimllm.lessons import ROOT, lesson_files, read_card
from minimllm.lessons.execution import LessonError, read_notebook

TEMPLATE = """{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block extra_css -%}
<style>
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
nav { display: flex; gap: 2rem; max-width: 60rem; margin: 0 auto; padding: 0.5rem 1rem; font-family: sans-serif; }
summary { cursor: pointer; }
img { max-width: 100%; }
.jp-RenderedMarkdown code { font-family: monospace !important; }
.jp-RenderedMarkdown pre, .jp-RenderedText pre, .jp-InputArea-editor .highlight pre {
  font-family: monospace !important; font-size: var(--jp-code-font-size) !important; line-height: 1.35;
  white-space: pre !important; word-break: normal !important; overflow-x: auto !important;
}
.jp-RenderedText pre { white-space: pre-wrap !important; }
</style>
{%- endblock -%}
"""


def formula(tex: str, display: str) -> str:
    """A formula as MathML, with its TeX as the alternative text; as plain TeX, marked as such, where it cannot be converted."""
    try:
        math = convert(html.unescape(tex), display=display)
    except Exception:  # the converter's errors have no common parent, and none of them may cost the reader the page
        math = ""
    if not math or ">\\" in math:  # an unknown command is passed through as it is
        return f'<code class="tex">{html.escape(html.unescape(tex))}</code>'
    return math.replace("<math ", f'<math alttext="{html.escape(tex.strip(), quote=True)}" ', 1)


class _Renderer(IPythonRenderer):
    def inline_math(self, body: str) -> str:
        return formula(body, "inline")

    def block_math(self, body: str) -> str:
        return formula(body, "block")


class _Exporter(HTMLExporter):
    def markdown2html(self, source: str) -> str:
        renderer = _Renderer(escape=False, exclude_anchor_links=True)
        return MarkdownWithMath(renderer=renderer).render(source)


def _bring_along(page: BeautifulSoup, document: PurePosixPath, root: Path, site: Path) -> None:
    """Points the page's relative links and pictures into the site, copying what they name; other links stay as they are."""
    for element, attribute in [(link, "href") for link in page.select("a[href]")] + [(image, "src") for image in page.select("img[src]")]:
        target, mark, fragment = element[attribute].partition("#")
        if not target or re.match(r"[a-z]+:|//", target):
            continue
        source = (root / document.parent / target).resolve()
        if not source.is_relative_to(root.resolve()) or not source.exists():
            raise LessonError(f"{document} links to {target!r}, and there is no such file")
        if source.is_dir():  # a folder cannot be read offline by every browser: leave its name, take the link off
            element.unwrap()
        elif source.suffix == ".ipynb":
            element[attribute] = f"{source.stem}.html{mark}{fragment}"
        else:
            inside = source.relative_to(root.resolve())
            (site / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, site / inside)
            element[attribute] = inside.as_posix() + mark + fragment


def render(notebook: NotebookNode, title: str) -> BeautifulSoup:
    """A notebook as a page that loads nothing from elsewhere; code that is folded in the notebook is folded here."""
    text, _ = _Exporter(raw_template=TEMPLATE).from_notebook_node(notebook, {"metadata": {"name": title}})
    page = BeautifulSoup(text, "html.parser")
    for cell in notebook.cells:
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            source = page.select_one(f'[id="cell-id={cell.id}"] .jp-Cell-inputWrapper')
            source.wrap(page.new_tag("details")).insert(0, BeautifulSoup("<summary>Code</summary>", "html.parser"))
    return page


def build(root: Path = ROOT, site: Path | None = None) -> Path:
    """Writes ``site`` (``root / "site"``) anew, a page for each lesson and the front page, and gives its path.

    Raises ``LessonError`` for a lesson without a card and for a link to a file that is not there; the site from before then stays.
    """
    site = site or root / "site"
    building = site.with_name(f".{site.name}-building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        lessons = {path: read_card(notebook) for path in lesson_files(root) for notebook in [read_notebook(path)]}
        stems = [path.stem for path in lessons]
        for place, (path, card) in enumerate(lessons.items()):
            page = render(read_notebook(path), card.title)
            _bring_along(page, PurePosixPath("notebooks", path.name), root, building)
            ways = [("index", "All lessons")]
            ways += [(stems[place - 1], "Previous lesson")] if place else []
            ways += [(stems[place + 1], "Next lesson")] if place + 1 < len(stems) else []
            links = "".join(f'<a href="{stem}.html">{words}</a>' for stem, words in ways)
            page.body.insert(0, BeautifulSoup(f'<nav aria-label="Lessons">{links}</nav>', "html.parser"))
            (building / f"{path.stem}.html").write_text(str(page), encoding="utf-8")
        readme = new_notebook(cells=[new_markdown_cell((root / "README.md").read_text(encoding="utf-8"))])
        front = render(readme, "minimllm")
        _bring_along(front, PurePosixPath("README.md"), root, building)
        (building / "index.html").write_text(str(front), encoding="utf-8")
        shutil.rmtree(site, ignore_errors=True)
        building.rename(site)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return site


def main() -> int:
    try:
        site = build()
    except LessonError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"open {site / 'index.html'} in a browser ({len(list(site.glob('*.html'))) - 1} lessons)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
