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

WIDE = 560  # CSS pixels: a picture as wide as this cannot be read on a phone when it is shrunk to the screen
TEMPLATE = """{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block extra_css -%}
<meta name="color-scheme" content="light dark">
<style>@media (prefers-color-scheme: dark) { DARK }</style>
<style>
:root { color-scheme: light dark; }
body.jp-Notebook { overflow: visible; height: auto; max-width: 60rem; margin: 0 auto; }
main { padding: 1rem; }
main > * { max-width: 100%; }
nav, summary { font-family: sans-serif; }
nav.lessons { display: flex; flex-wrap: wrap; gap: 0.5rem 2rem; padding: 0.5rem 1rem; }
nav a { color: var(--jp-content-link-color); }
main p a, main li a { text-decoration: underline !important; }
.jp-InputPrompt, .jp-OutputPrompt { color: var(--jp-content-font-color1) !important; opacity: 1 !important; }
.contents a { display: block; padding: 0.25rem 0; line-height: 1.3; text-decoration: none; }
.contents .h3 { padding-left: 1rem; }
nav.contents { display: none; }
details.contents { position: sticky; top: 0; z-index: 2; padding: 0.5rem 1rem; background: var(--jp-layout-color0); }
details.contents nav { max-height: 70vh; overflow-y: auto; }
summary { cursor: pointer; }
img { max-width: 100%; background: white; }
.picture, .formula { display: block; overflow-x: auto; overflow-y: hidden; }
[style*="background"] { color: black; }
h1, h2, h3, h4 { scroll-margin-top: 3rem; }
@media (min-width: 75rem) {
  body.jp-Notebook { max-width: 78rem; display: grid; grid-template-columns: 15rem minmax(0, 60rem); column-gap: 2rem; align-items: start; }
  body > * { grid-column: 2; }
  nav.contents { display: block; grid-column: 1; grid-row: 1 / 5; position: sticky; top: 0; max-height: 100vh; overflow-y: auto; }
  nav.contents { box-sizing: border-box; padding: 1rem; font-size: 0.85rem; }
  details.contents { display: none; }
  h1, h2, h3, h4 { scroll-margin-top: 0; }
}
.jp-RenderedMarkdown code { font-family: monospace !important; }
.jp-RenderedMarkdown pre, .jp-RenderedText pre, .jp-InputArea-editor .highlight pre {
  font-family: monospace !important; font-size: var(--jp-code-font-size) !important; line-height: 1.35;
  white-space: pre !important; word-break: normal !important; overflow-x: auto !important;
}
.jp-RenderedText pre { white-space: pre-wrap !important; }
@media (max-width: 45rem) {
  body.jp-Notebook { padding: 0; }
  main { padding: 0.5rem; }
  .jp-InputPrompt, .jp-OutputPrompt { display: none; }
  .jp-RenderedText pre { white-space: pre !important; }
  .picture > img.wide { min-width: 38rem; max-width: none; }
  .stacked, .stacked tbody, .stacked tr, .stacked td { display: block; text-align: left !important; max-width: none !important; }
  .stacked thead { display: none; }
  .stacked tr { padding: 0.5rem 0; }
  .stacked td { padding: 0.1rem 0.5rem; }
  .stacked td[data-label]:not([data-label=""])::before { content: attr(data-label) ": "; font-weight: bold; }
}
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
    math = math.replace("<math ", f'<math alttext="{html.escape(tex.strip(), quote=True)}" ', 1)
    return f'<span class="formula">{math}</span>' if display == "block" else math  # a wide one scrolls, and not its paragraph with it


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
        elif source == root.resolve() / "README.md":
            element[attribute] = f"index.html{mark}{fragment}"
        elif source.suffix == ".ipynb":
            element[attribute] = f"{source.stem}.html{mark}{fragment}"
        else:
            inside = source.relative_to(root.resolve())
            (site / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, site / inside)
            element[attribute] = inside.as_posix() + mark + fragment


def _fit(page: BeautifulSoup) -> None:
    """Makes a page fit for phones and keyboards: wide pictures scroll in a frame of their own; only what can be used is a Tab stop."""
    for element in page.select("[tabindex]"):  # nbconvert's cells and outputs; browsers themselves stop where something scrolls
        del element["tabindex"]
    for image in page.select("img"):
        if int(image.get("width") or 0) >= WIDE:
            image["class"] = [*image.get("class", []), "wide"]
            image.wrap(page.new_tag("span", attrs={"class": "picture"}))


def _stack_tables(page: BeautifulSoup) -> None:
    """Lets the rows of a page's tables of prose become paragraphs on a phone, each cell behind the heading of its column."""
    for table in page.select("table"):
        table["class"] = [*table.get("class", []), "stacked"]
        headings = [heading.text.strip() for heading in table.select("th")]
        for row in table.select("tbody tr"):
            for place, (cell, heading) in enumerate(zip(row.select("td"), headings, strict=True)):
                cell["data-label"] = heading if place > 1 else ""


def _contents(page: BeautifulSoup) -> str:
    """The page's headings as links, twice: beside the text where there is room, and folded above it where there is none."""
    links, seen = "", set()
    for heading in page.select("main h2, main h3"):
        words = heading.text.strip().removesuffix("¶")
        name = heading.get("id") or re.sub(r"\W+", "-", words).strip("-").lower() or "part"
        while name in seen:
            name += "-"
        seen.add(name)
        heading["id"] = name
        links += f'<a class="{heading.name}" href="#{html.escape(name)}">{html.escape(words)}</a>'
    if not links:
        return ""
    folded = f'<details class="contents"><summary>On this page</summary><nav aria-label="On this page">{links}</nav></details>'
    return f'<nav class="contents" aria-label="On this page">{links}</nav>{folded}'


def render(notebook: NotebookNode, title: str, ways: str = "") -> BeautifulSoup:
    """A notebook as a page that loads nothing from elsewhere; code that is folded in the notebook is folded here.

    ``ways``: links to other pages, in HTML, to stand above and below.
    """
    exporter = _Exporter(raw_template=TEMPLATE)
    dark = next(file for path in exporter.template_paths for file in [Path(path) / "static" / "theme-dark.css"] if file.exists())
    colours = dark.read_text(encoding="utf-8").replace(":root", ":root:root")  # stronger than the light ones, which come later
    exporter.raw_template = TEMPLATE.replace("DARK", colours)
    text, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    page = BeautifulSoup(text, "html.parser")
    _fit(page)
    above = f'<nav class="lessons" aria-label="Lessons">{ways}</nav>' if ways else ""
    below = f'<nav class="lessons" aria-label="Lessons, again">{ways}</nav>' if ways else ""
    page.body.insert(0, BeautifulSoup(above + _contents(page), "html.parser"))
    page.body.append(BeautifulSoup(below, "html.parser"))
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
            ways = [("README.md", "All lessons")]
            ways += [(f"notebooks/{stems[place - 1]}.ipynb", "Previous lesson")] if place else []
            ways += [(f"notebooks/{stems[place + 1]}.ipynb", "Next lesson")] if place + 1 < len(stems) else []
            links = "".join(f'<a href="../{target}">{words}</a>' for target, words in ways)
            page = render(read_notebook(path), card.title, links)
            _bring_along(page, PurePosixPath("notebooks", path.name), root, building)
            (building / f"{path.stem}.html").write_text(str(page), encoding="utf-8")
        readme = new_notebook(cells=[new_markdown_cell((root / "README.md").read_text(encoding="utf-8"))])
        front = render(readme, "minimllm")
        _stack_tables(front)
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
