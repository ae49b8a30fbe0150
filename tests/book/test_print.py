"""Pages on paper: dark on white, whatever the screen shows."""

import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine"),
    pytest.mark.skipif(not (HTML / "index.html").exists(), reason="no built book: `make book`"),
]
FAINT = """() => {
  const light = colour => { const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(v => {
      v /= 255; return v <= 0.04045 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4); });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const faint = [];
  for (const e of document.querySelectorAll(
        'main :is(p, li, td, pre, pre span, h1, h2, h3, summary, figcaption), .evidence, ' +
        '.course-figure svg text, .course-check')) {
    if (!e.getClientRects().length || e.closest('.headerlink')) continue;
    const style = getComputedStyle(e);
    const ink = light(e.tagName === 'text' ? style.fill : style.color);
    if (1.05 / (ink + 0.05) < 4) faint.push(e.tagName + ': ' + e.textContent.slice(0, 60));
  }
  return faint;
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.mark.parametrize("path", sorted((HTML / "book").glob("*.html")), ids=lambda path: path.stem)
def test_a_page_printed_from_dark_mode_is_dark_on_white(path):
    from playwright.sync_api import sync_playwright

    handler = functools.partial(Quiet, directory=HTML)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(color_scheme="dark")
        page.goto(f"http://127.0.0.1:{server.server_port}/book/{path.name}")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate(FAINT) == []
        ground = "getComputedStyle(document.querySelector('main')).backgroundColor"
        body = "getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(f"[{ground}, {body}]")[1] == "rgb(255, 255, 255)"
        browser.close()
    server.shutdown()
    server.server_close()
