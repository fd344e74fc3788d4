"""The web pages of the lessons: complete without a network, nothing lost on the way."""

import re

import pytest
from browsing import CHROMIUM, FLAGS
from bs4 import BeautifulSoup
from nbformat import write
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from minimllm import lessons
from minimllm.lessons.execution import LessonError
from minimllm.lessons.site import build, formula, render

PROSE = r"""Attention is $\mathrm{softmax}(QK^\top)$, see <b>below</b> and $a < b$.

$$n = \frac{HW}{P^2}$$

![A drawn grid](../assets/grid.svg) and [the next one](02_next.ipynb#end), [a paper](https://example.com/paper).

<details><summary>Solution</summary>

```python
x = 1
```

</details>
"""


@pytest.fixture
def course(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "grid.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "LICENSE").write_text("MIT")
    (tmp_path / "README.md").write_text("# Course\n\n[First](notebooks/01_first.ipynb), [licence](LICENSE), [package](assets/)\n")
    picture = {"text/html": '<img alt="Bars" src="data:image/png;base64,AAAA">', "text/plain": "Explorer at 1"}
    for name in ("01_first", "02_next"):
        cells = [new_markdown_cell(lessons.card(name, "A claim.", "read.", "eyes.")), new_markdown_cell(PROSE)]
        cells.append(new_code_cell("show()", execution_count=1, outputs=[new_output("display_data", picture)]))
        cells.append(new_code_cell("folded()", execution_count=2, metadata={"jupyter": {"source_hidden": True}}))
        write(new_notebook(cells=cells), tmp_path / "notebooks" / f"{name}.ipynb")
    return tmp_path


def loaded_from_elsewhere(page: BeautifulSoup) -> list[str]:
    """All that a browser would fetch from a server to draw the page; links that a reader follows do not count."""
    sources = [element.get("src") or element.get("href") or "" for element in page.select("script[src], img[src], link[href], iframe[src]")]
    styles = [style.text for style in page.select("style")]
    scripts = [script.text for script in page.select("script")]
    fetched = [text for text in sources if re.match(r"([a-z]+:)?//", text)]
    return fetched + [text for text in styles + scripts if "url(http" in text or "import(" in text]


def test_pages_are_complete_without_a_network(course):
    site = build(course)
    page = BeautifulSoup((site / "01_first.html").read_text(encoding="utf-8"), "html.parser")
    assert loaded_from_elsewhere(page) == []
    assert [image["alt"] for image in page.select("img")] == ["A drawn grid", "Bars"]
    assert (site / page.select_one('img[alt="A drawn grid"]')["src"]).read_text().startswith("<svg")
    assert page.select_one("title").text == "01_first" and page.select_one("details summary").text == "Solution"
    assert [fold.pre.text.strip() for fold in page.select("details:has(.jp-Cell-inputWrapper)")] == ["folded()"]
    assert [math["display"] for math in page.select("math")] == ["inline", "inline", "block"] and page.select_one("math mfrac")
    assert page.select("math")[1]["alttext"] == "a < b"


LOOK = """() => [...document.querySelectorAll('pre')].map(element => {
  const style = getComputedStyle(element);
  const [i, m] = ['.i', '.m'].map(name => element.querySelector(name).getBoundingClientRect().width);
  return [Math.abs(i - m) < 0.1, style.whiteSpaceCollapse === 'preserve', style.wordBreak, style.overflowX];
})"""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found (put it on the path, or name it in CHROMIUM)")
def test_source_code_is_set_in_letters_of_one_width_and_never_broken_within_a_word(tmp_path):
    from playwright.sync_api import sync_playwright

    source = new_output("display_data", {"text/markdown": "```python\ndef narrow(): return 1\n```", "text/plain": "..."})
    cells = [new_code_cell("show_source(narrow)", execution_count=1, outputs=[source, new_output("stream", text="iii mmm")])]
    page = render(new_notebook(cells=cells), "a page")
    for element in page.select("pre"):  # two words of equal length, to be measured
        for letter in "im":
            element.append(BeautifulSoup(f'<span class="{letter}">{letter * 9}</span>', "html.parser"))
    (tmp_path / "page.html").write_text(str(page), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        opened = browser.new_page()
        opened.goto((tmp_path / "page.html").as_uri())
        looks = opened.evaluate(LOOK)
        browser.close()
    assert looks == [[True, True, "normal", "auto"]] * 3  # the cell, what it shows, what it prints


def test_a_page_has_its_headings_beside_it_and_only_what_can_be_used_is_a_tab_stop(tmp_path):
    wide = {"text/html": '<img alt="Bars" width="700" src="data:image/png;base64,AAAA"><img alt="Dot" width="70" src="data:,">'}
    prose = "# Title\n\n## Cut\n\n$$a + b$$\n\n### Cut\n\n## A & b"
    page = render(new_notebook(cells=[new_markdown_cell(prose), new_code_cell("x", outputs=[new_output("display_data", wide)])]), "a page")
    for nav in page.select('nav[aria-label="On this page"]'):
        led = [(link.text, page.select_one(link["href"]).text.strip()) for link in nav.select("a")]
        assert led == [(words, words) for words in ("Cut", "Cut", "A & b")]
    assert len(page.select('nav[aria-label="On this page"]')) == 2 and page.select("[tabindex]") == []
    assert [image["alt"] for image in page.select(".picture > img.wide")] == ["Bars"] and page.select_one("span.formula > math")


FITS = """() => ({
  sideways: document.documentElement.scrollWidth - innerWidth,
  formula: (formula => formula.scrollWidth > formula.clientWidth)(document.querySelector('.formula')),
  contents: [...document.querySelectorAll('.contents')].filter(each => each.offsetParent || getComputedStyle(each).position === 'sticky')
    .filter(each => getComputedStyle(each).display !== 'none').map(each => [each.tagName, Math.round(each.getBoundingClientRect().top)]),
  dark: getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).every(part => part < 60),
})"""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found (put it on the path, or name it in CHROMIUM)")
def test_a_page_fits_a_phone_keeps_its_contents_in_view_and_is_dark_where_the_system_is(tmp_path):
    from playwright.sync_api import sync_playwright

    prose = "# Title\n\n" + "\n\n".join(f"## Part {n}\n\n$${'+'.join(['x'] * 90)}$$\n\n" + "words " * 300 for n in range(8))
    (tmp_path / "page.html").write_text(str(render(new_notebook(cells=[new_markdown_cell(prose)]), "a page")), encoding="utf-8")
    seen = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        for width, scheme in ((390, "dark"), (1400, "light")):
            opened = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            opened.goto((tmp_path / "page.html").as_uri())
            opened.evaluate("() => window.scrollTo(0, 1500)")
            seen.append(opened.evaluate(FITS))
        browser.close()
    phone = {"sideways": 0, "formula": True, "contents": [["DETAILS", 0]], "dark": True}
    assert seen == [phone, phone | {"contents": [["NAV", 0]], "dark": False}]


def test_links_lead_to_pages_and_copied_files(course):
    site = build(course)
    first = BeautifulSoup((site / "01_first.html").read_text(encoding="utf-8"), "html.parser")
    front = BeautifulSoup((site / "index.html").read_text(encoding="utf-8"), "html.parser")
    links = [link["href"] for link in first.select("a")]
    ways = ["index.html", "02_next.html"]
    assert links == [*ways, "02_next.html#end", "https://example.com/paper", *ways]
    assert [link["href"] for link in front.select("a")] == ["01_first.html", "LICENSE"] and "package" in front.text
    assert (site / "LICENSE").read_text() == "MIT" and loaded_from_elsewhere(front) == []


def test_broken_link_is_refused_and_the_site_from_before_stays(course):
    site = build(course)
    (course / "assets" / "grid.svg").unlink()
    with pytest.raises(LessonError, match=r"notebooks/01_first\.ipynb links to '\.\./assets/grid\.svg'"):
        build(course)
    assert (site / "01_first.html").exists() and not (course / ".site-building").exists()


@pytest.mark.parametrize("tex", [r"\nosuchcommand{a}", r"x^1^2", r"\left( x"])
def test_formula_that_cannot_be_converted_is_shown_as_tex(tex):
    assert formula(tex, "inline") == f'<code class="tex">{tex}</code>'


def test_site_of_the_course_builds(tmp_path):
    site = build(lessons.ROOT, tmp_path / "site")
    for path in [site / "index.html", *(site / f"{path.stem}.html" for path in lessons.lesson_files())]:
        page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        assert loaded_from_elsewhere(page) == []
        assert not [code.text for code in page.select("code.tex")], "a formula that could not be converted"
