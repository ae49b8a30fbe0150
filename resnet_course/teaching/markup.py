"""Text of ours as HTML: escaped, with the two marks that sentences in the course use."""

import re
from html import escape


def figure(panels, style, caption):
    """Panels (HTML) in a row or in columns, as `style` (CSS) says, over a caption -> HTML."""
    return (
        '<figure class="course-figure" style="margin:1em 0">'
        f'<div style="{style}">{panels}</div>'
        f'<figcaption style="opacity:.85">{marked(caption)}</figcaption></figure>'
    )


def marked(text):
    """`code` and *emphasis* as in Markdown, everything else escaped -> HTML."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\*([^\s*][^*]*)\*", r"<em>\1</em>", text)
