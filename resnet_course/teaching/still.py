"""A drawing for readers whose Jupyter does not trust the notebook.

Jupyter shows somebody else's run without its `<svg>`, `<style>` and `<script>`, and keeps the words
in between. So every drawing is hidden until its own style shows it, and beside it lies a still
picture that the same style hides: one of the two is seen, whatever is dropped. The built page
leaves the still pictures out (tools/sphinx/hand_out.py).
"""

import base64
import re
from html import escape

SHOWN = (
    "<style>.course-drawing{display:block!important}.course-still{display:none!important}</style>"
)
ASLEEP = (
    '<p class="course-still"><em>The sliders sleep, since Jupyter does not trust this copy: run '
    "the notebook yourself, or trust it (command palette, “Trust Notebook”).</em></p>"
)
INK, GROUND = "#1a1a1a", "#ffffff"  # a still picture cannot ask for the page's colours


def drawn(svg, words):
    """One `<svg>` that is shown where it is trusted, and a still picture of it for elsewhere."""
    look = re.search(r' style="([^"]*)"', svg[: svg.index(">")])[1]
    picture = base64.b64encode(svg.replace("currentColor", INK).encode()).decode()
    return (
        f'{SHOWN}<div class="course-drawing" hidden="hidden">{svg}</div>'
        f'<img class="course-still" alt="{escape(words, quote=True)}" '
        f'style="{look};background:{GROUND}" src="data:image/svg+xml;base64,{picture}"/>'
    )


def without(html):
    """The same HTML for a page that trusts it: no still pictures, nothing hidden."""
    html = html.replace(SHOWN, "").replace(' class="course-drawing" hidden="hidden"', "")
    return re.sub(r'<img class="course-still"[^>]*>|<p class="course-still">.*?</p>', "", html)
