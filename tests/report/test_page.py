import pytest
from chromium import PATH, Chromium, Page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(PATH is None, reason="Chromium is not installed (Debian: chromium)"),
]

# Elements that reach beyond the page's width, but for those within a box that scrolls by itself.
OVERFLOWING = """
[...document.body.querySelectorAll("*")]
  .filter(e => !e.parentElement.closest(".scroll, pre"))
  .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
  .map(e => `${e.tagName} ${e.textContent.trim().slice(0, 40)}`)
"""
COLUMN = "[...document.querySelector('table').tBodies[0].rows].map(r => r.cells[{}].textContent)"
HEAD = "document.querySelector('table').tHead.rows[0].cells[{}]"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def opened(browser, report):
    pages = []

    def open(width=1280, scheme="light"):
        pages.append(Page(browser, report, width, scheme))
        return pages[-1]

    yield open
    for page in pages:
        page.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark"), (320, "light")])
def test_page_fits_and_is_quiet(opened, width, scheme):
    page = opened(width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate("document.documentElement.clientWidth") == width
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(OVERFLOWING) == []
    pictures = "[...document.images].map(i => i.complete && i.naturalWidth > 300 && i.alt !== '')"
    assert len(page.evaluate(pictures)) >= 9 and all(page.evaluate(pictures))
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 25, 29)")
    assert page.complaints() == []


def test_nothing_is_fetched(opened, report):
    others = {url for url in opened().requests() if not url.startswith("data:")}
    assert others == {report.as_uri()}


def test_table_sorts_numbers_and_text(opened):
    page = opened()
    before = page.evaluate(COLUMN.format(0))
    page.evaluate(HEAD.format(9) + ".querySelector('button').click()")  # test perplexity
    assert page.evaluate(COLUMN.format(9)) == ["120.0", "122.0", "–"]
    assert page.evaluate(HEAD.format(9) + ".getAttribute('aria-sort')") == "ascending"
    page.evaluate(HEAD.format(9) + ".querySelector('button').click()")
    assert page.evaluate(COLUMN.format(9)) == ["122.0", "120.0", "–"]  # missing last
    page.evaluate(HEAD.format(0) + ".querySelector('button').click()")
    assert page.evaluate(COLUMN.format(0)) != before
    assert sorted(page.evaluate(COLUMN.format(0))) == sorted(before)
    assert page.evaluate(HEAD.format(9) + ".hasAttribute('aria-sort')") is False


def test_names_are_text_and_never_markup(opened):
    page = opened()
    assert page.evaluate("document.scripts.length") == 1
    assert page.evaluate("document.querySelector('header pre').textContent") == "define analyze <a>"
    settings = page.evaluate("document.querySelector('#settings').textContent")
    assert "name: <b>projected</b>" in settings
