"""The page as a browser shows it: Debian's Chromium, driven by Playwright."""

import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)"),
]

LOOKS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark"), (320, "light")]
# Whatever is wider than its box, or reaches beyond the page.
CUT = """[...document.body.querySelectorAll("*:not(svg *)")].filter(e =>
    e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline"
    || e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5
).map(e => `${e.tagName} ${e.className} ${e.textContent.trim().slice(0, 40)}`)"""
# Texts of figures that reach beyond their figure, or cover one another.
CUT_LABELS = """[...document.querySelectorAll("figure svg")].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  const box = e => [e.textContent, e.getBoundingClientRect()];
  const texts = [...svg.querySelectorAll("text")].map(box);
  const out = texts.filter(([, b]) => b.left < frame.left - 1 || b.right > frame.right + 1
      || b.top < frame.top - 1 || b.bottom > frame.bottom + 1);
  const over = texts.filter(([, a], i) => texts.slice(0, i).some(([, b]) =>
      Math.min(a.right, b.right) - Math.max(a.left, b.left) > 3
      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3));
  return [...out, ...over].map(([text]) => `${svg.ariaLabel}: ${text}`);
})"""
SMALLEST = """Math.min(...[...document.querySelectorAll("figure text")].map(
    e => { const m = e.getScreenCTM();
      return parseFloat(getComputedStyle(e).fontSize) * Math.hypot(m.a, m.b); }))"""


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, report):
    contexts = []

    def open(width=1280, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, is_mobile=width < 600
        )
        contexts.append(context)
        page = context.new_page()
        page.complaints, page.asked = [], []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(report.as_uri())
        return page

    yield open
    for context in contexts:
        context.close()


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_nothing_is_cut_and_the_page_is_quiet(opened, width, scheme):
    page = opened(width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(CUT) == []
    assert page.locator("figure svg").count() >= 14
    assert page.evaluate(CUT_LABELS) == []
    assert page.complaints == []
    if width >= 390:
        assert page.evaluate(SMALLEST) > 8  # pixels


def colours(page, what, property):
    return set(
        page.evaluate(
            f"[...document.querySelectorAll('{what}')].map(e => getComputedStyle(e).{property})"
        )
    )


def test_figures_are_of_the_page_s_colours(opened):
    for scheme, page_colour, ink in (
        ("light", "rgb(255, 255, 255)", "rgb(27, 27, 27)"),
        ("dark", "rgb(22, 25, 29)", "rgb(230, 230, 230)"),
    ):
        page = opened(1280, scheme)
        assert colours(page, "body", "backgroundColor") == {page_colour}
        assert colours(page, "figure text", "fill") == {ink}
        assert colours(page, "figure, figure svg", "backgroundColor") == {"rgba(0, 0, 0, 0)"}
        whole = "[...document.querySelectorAll('figure svg > g > g:first-child > path')].map(e =>"
        assert set(page.evaluate(f"{whole} getComputedStyle(e).fill)")) <= {"none"}


def test_a_figure_by_itself_is_dark_on_a_dark_screen(opened, report):
    page = opened(1280, "dark")
    page.goto((report.parent / "depth.svg").as_uri())
    assert colours(page, "text", "fill") == {"rgb(230, 230, 230)"}
    assert "dark" in page.evaluate("getComputedStyle(document.documentElement).colorScheme")


def test_words_of_any_script_are_text(opened):
    page = opened()
    texts = page.evaluate("[...document.querySelectorAll('figure text')].map(e => e.textContent)")
    assert {"a|b", "機械翻訳-実験-1", "\N{HAIR SPACE}_$DeFINE_"} <= set(texts)
    assert any("한국어" in text or "你好世界" in text for text in texts)


def test_nothing_is_fetched(opened, report):
    assert {url for url in opened().asked if not url.startswith("data:")} == {report.as_uri()}


def column(page, name):
    """The cells of a column of the table of runs, and its head."""
    table = page.locator("table").first
    place = table.locator("th").all_inner_texts().index(name)
    cells = [row.locator("td").nth(place).text_content() for row in table.locator("tbody tr").all()]
    return cells, table.locator("th").nth(place)


@pytest.mark.parametrize("width", [1280, 390])
def test_table_sorts_numbers_and_text(opened, width):
    page = opened(width)
    before, run = column(page, "run")
    _, head = column(page, "test ppl")
    head.locator("button").click()
    assert column(page, "test ppl")[0] == ["120.0", "122.0", "123.0", "–"]
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    assert column(page, "test ppl")[0] == ["123.0", "122.0", "120.0", "–"]  # missing last
    run.locator("button").click()
    assert column(page, "run")[0] != before and sorted(column(page, "run")[0]) == sorted(before)
    assert head.get_attribute("aria-sort") is None


def test_a_wide_table_becomes_a_list_on_a_phone_and_a_table_again(opened):
    page = opened(390)
    wide = page.locator("table").first
    assert wide.get_attribute("class") == "cards"
    page.set_viewport_size({"width": 1280, "height": 900})
    page.wait_for_function("document.querySelector('table').className === ''")


def test_names_are_text_and_never_markup(opened):
    page = opened()
    assert page.evaluate("document.scripts.length") == 1
    assert page.locator("header pre").text_content() == "define analyze <a>"
    assert "name: <b>projected</b>" in page.locator("#settings").text_content()
    assert page.get_by_text("<script>alert(1)</script>").count() > 0
