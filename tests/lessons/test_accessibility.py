"""The site under axe-core, which knows the rules for pages that everyone can use, in a real Chromium: nothing serious, light and dark.

axe-core comes by npm, which `make browser` asks for it; where it is not there, these tests are skipped and say so.
"""

import pytest
from browsing import ROOT, in_browser, open_page

from minimllm import lessons
from minimllm.lessons.site import build

AXE = ROOT / ".environments" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
FAULTS = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations
  .filter(fault => ['serious', 'critical'].includes(fault.impact))
  .map(fault => `${fault.id} (${fault.nodes.length}): ${fault.nodes[0].html.slice(0, 160)}`)"""

pytestmark = [*in_browser, pytest.mark.long, pytest.mark.skipif(not AXE.exists(), reason="no axe-core (make browser fetches it by npm)")]


def faults(page, address: str) -> list[str]:
    page.goto(address)
    page.add_script_tag(path=str(AXE))
    return page.evaluate(FAULTS)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return build(lessons.ROOT, tmp_path_factory.mktemp("course") / "site")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index", *(path.stem for path in lessons.lesson_files())])
def test_page_has_no_serious_fault(site, name, scheme):
    with open_page(color_scheme=scheme) as page:
        assert faults(page, (site / f"{name}.html").as_uri()) == []


def test_faults_are_found(tmp_path):
    (tmp_path / "page.html").write_text(
        '<html><head><title>x</title></head><body><img src="data:,"><p style="color:#aaa">pale</p></body></html>'
    )
    with open_page() as page:
        found = faults(page, (tmp_path / "page.html").as_uri())
    assert [fault.split()[0] for fault in found] == ["color-contrast", "html-has-lang", "image-alt"]
