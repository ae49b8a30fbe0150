"""Every built page in a real browser: Debian's Chromium, or any Chrome on the path."""

from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
pytestmark = pytest.mark.skipif(
    not (HTML / "index.html").exists(), reason="no built book: `make book`"
)


def pages():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return [toc["root"]] + [c["file"] for part in toc["parts"] for c in part["chapters"]]


@pytest.mark.parametrize("name", pages())
def test_no_other_host_and_a_silent_console(visit, address, name):
    _, requests, messages = visit(name)
    assert [url for url in requests if not url.startswith((address, "data:"))] == []
    assert messages == []


@pytest.mark.parametrize("name", pages())
@pytest.mark.parametrize("width", [390, 1280])
def test_fits_its_width(visit, name, width):
    page, _, _ = visit(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", pages())
def test_math_is_typeset(visit, name):
    page, _, _ = visit(name)
    written = page.locator(".math").count()
    assert page.locator("mjx-container:has(> svg)").count() == written
    assert page.locator("mjx-merror").count() == 0


@pytest.mark.parametrize("name", pages())
def test_every_picture_has_words(visit, name):
    page, _, _ = visit(name)
    images = page.locator("main img")
    for i in range(images.count()):
        assert (images.nth(i).get_attribute("alt") or "").strip()
    figures = page.locator(".course-figure svg")
    for i in range(figures.count()):
        assert len(figures.nth(i).get_attribute("aria-label")) > 20
        assert figures.nth(i).bounding_box()["height"] > 30


CONTRAST = """() => {
  const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255;
      return v <= 0.04045 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4); });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = e => { for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length && (c.length < 4 || c[3] > 0.5)) return c; }
      return [255, 255, 255]; };
  const bad = [];
  for (const e of document.querySelectorAll(
        'main :is(p, li, pre, h1, h2, h3, summary, legend, label), .evidence, .course-check, ' +
        '.course-check code, .course-figure svg text, figcaption')) {
    if (!e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const ink = parse(e.tagName === 'text' ? style.fill : style.color);
    const [a, b] = [light(ink), light(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(e.tagName + ': ' + e.textContent.slice(0, 60));
  }
  return bad;
}"""


@pytest.mark.parametrize("name", pages())
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable(visit, name, scheme):
    page, _, _ = visit(name, scheme=scheme)
    page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
    assert page.evaluate(CONTRAST) == []
    outputs = ".text_html:has(.course-figure, .course-output)"
    grounds = f"[...new Set([...document.querySelectorAll('{outputs}')].map("
    grounds += "e => getComputedStyle(e).backgroundColor))]"
    assert set(page.evaluate(grounds)) <= {"rgba(0, 0, 0, 0)"}  # figures stand on the page itself


@pytest.mark.parametrize("name", pages())
def test_links_inside_the_book_lead_somewhere(visit, address, name):
    page, _, _ = visit(name)
    links = page.eval_on_selector_all("main a[href]", "all => all.map(a => a.href)")
    for link in links:
        if link.startswith(address):
            place, _, fragment = link.removeprefix(address).lstrip("/").partition("#")
            target = HTML / place.split("?")[0]
            assert target.exists(), link
            if fragment and target.suffix == ".html":
                assert f'id="{unquote(fragment)}"' in target.read_text(), link


def test_colour_switch_reaches_the_figures(visit):
    page, _, messages = visit("book/03_degradation", scheme="light")
    ink = "getComputedStyle(document.querySelector('.course-figure svg text')).fill"
    before = page.evaluate(ink)
    while page.evaluate("document.documentElement.dataset.theme") == "light":
        page.locator(".theme-switch-button").first.click()  # auto, light, dark, in turn
    page.wait_for_function(f"{ink} !== '{before}'", timeout=5000)
    assert messages == []


EXPLORERS = "document.querySelectorAll('.course-explorer').length"


@pytest.mark.parametrize("name", pages())
def test_explorers_move_by_keyboard_without_a_kernel(visit, name):
    """Every slider of every explorer changes the picture, its words, and what is read aloud."""
    page, _, messages = visit(name)
    for number in range(page.evaluate(EXPLORERS)):
        explorer = page.locator(".course-explorer").nth(number)
        frame, sliders = explorer.locator(".course-frame"), explorer.locator("input")
        assert sliders.count() >= 1
        seen = {frame.inner_html()}
        for i in range(sliders.count()):
            slider = sliders.nth(i)
            slider.focus()
            key = "ArrowRight" if slider.input_value() == "0" else "ArrowLeft"
            before = slider.get_attribute("aria-valuetext"), frame.inner_html()
            page.keyboard.press(key)
            after = slider.get_attribute("aria-valuetext"), frame.inner_html()
            assert before[0] != after[0] and before[1] != after[1]
            assert explorer.locator("output").nth(i).inner_text() == after[0]
            seen.add(after[1])
        assert len(seen) == 1 + sliders.count()
        label = frame.locator("svg").first.get_attribute("aria-label")
        assert len(label) > 20 and frame.locator("figcaption").inner_text()
    assert messages == []


def test_explorers_read_in_the_dark_and_fit_a_phone(visit):
    page, _, _ = visit("book/03_degradation", 390, "dark")
    frame = page.locator(".course-explorer .course-frame svg").first
    assert frame.bounding_box()["width"] <= 390
    ink = "getComputedStyle(document.querySelector('.course-frame svg text')).fill"
    assert min(map(int, page.evaluate(ink)[4:-1].split(", "))) > 128


@pytest.mark.parametrize("name", pages())
def test_quizzes_answer_by_keyboard_without_a_kernel(visit, name):
    page, _, _ = visit(name)
    questions = page.locator(".course-quiz section")
    for number in range(questions.count()):
        question = questions.nth(number)
        options, answers = question.locator("summary"), question.locator("details p")
        assert answers.count() == options.count() >= 3
        assert question.locator("details p:visible").count() == 0
        for i in range(options.count()):
            options.nth(i).focus()
            page.keyboard.press("Enter")
            assert answers.nth(i).is_visible()
            assert question.locator("details p:visible").count() == 1  # they close each other
        assert question.locator("details p.right").count() == 1


def test_exercises_wait_calmly_in_the_built_page(visit):
    page, _, _ = visit("book/03_degradation")
    checks = page.locator(".course-check")
    assert checks.count() >= 4
    assert all("not attempted yet" in text for text in checks.all_inner_texts())
    hints = page.locator("details:has(summary:text('Hint'))")
    assert hints.count() >= 8 and not hints.first.evaluate("d => d.open")
    hints.first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert hints.first.evaluate("d => d.open")


@pytest.mark.parametrize("name", pages())
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_nothing_for_axe_to_find(visit, name, width, scheme):
    """axe-core's rules for readers with a keyboard, a screen reader, or less sight."""
    from axe_playwright_python.sync_playwright import Axe

    page, _, _ = visit(name, width, scheme)
    found = Axe().run(page).response["violations"]
    said = {
        rule["id"]: [(node["html"][:120], node["failureSummary"][:200]) for node in rule["nodes"]]
        for rule in found
    }
    assert said == {}


CHAPTERS = [name for name in pages() if name.split("/")[1][:2].isdecimal()]


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapters_are_numbered_wherever_they_are_named(visit, name):
    page, _, _ = visit(name)
    number = name.split("/")[1][:2]
    title = page.locator("article h1").inner_text().rstrip("#").strip()
    assert title.startswith(f"{number} · ")
    assert page.title().startswith(title)  # the browser's tab
    here = page.locator(f"nav.bd-links a[href='#'], nav.bd-links a[href$='{number}_*.html']")
    assert here.first.text_content().strip() == title
    chapter = CHAPTERS.index(name)
    if chapter:
        before = page.locator("a.left-prev").text_content()
        assert f"{chapter:02d} · " in before


def test_folded_code_opens_by_keyboard_and_all_at_once(visit):
    page, _, messages = visit("book/03_degradation")
    folds = page.locator("main details.hide")
    assert folds.count() >= 4
    assert not any(folds.nth(i).evaluate("d => d.open") for i in range(folds.count()))
    folds.nth(1).locator("summary").focus()
    page.keyboard.press("Enter")
    assert folds.nth(1).evaluate("d => d.open") and folds.nth(1).locator("pre").first.is_visible()
    switch = page.locator("button.course-folds")
    switch.focus()
    page.keyboard.press("Enter")
    assert all(folds.nth(i).evaluate("d => d.open") for i in range(folds.count()))
    assert switch.get_attribute("aria-pressed") == "true"
    page.emulate_media(media="print")
    assert page.locator("main details.hide pre:visible").count() == 0
    page.emulate_media(media="screen")
    switch.click()
    assert not any(folds.nth(i).evaluate("d => d.open") for i in range(folds.count()))
    assert messages == []


def test_words_for_readers_of_the_notebook_are_not_on_the_page():
    for page in (HTML / "book").glob("*.html"):
        assert "Reading this as a notebook" not in page.read_text(), page.name


def test_the_theme_leaves_nothing_behind():
    names = {path.name for path in (HTML / "_static").rglob("*")}
    assert not {name for name in names if name.endswith("webpack-macros.html")}


def test_the_first_page_shows_the_picture_first(visit):
    page, _, _ = visit("book/intro", 1280)
    assert page.locator(".course-figure svg, .course-figure img").first.bounding_box()["y"] < 700
    assert page.locator("main pre:visible").count() <= 1
