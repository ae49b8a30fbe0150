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
    """`code` and *emphasis* as in Markdown, all else escaped -> HTML. Code keeps its stars."""
    code = []

    def aside(found):
        code.append(f"<code>{found[1]}</code>")
        return f"\0{len(code) - 1}\0"

    text = re.sub(r"`([^`]+)`", aside, escape(text.replace("\0", "")))
    text = re.sub(r"(?<![\w*])\*([^\s*](?:[^*]*[^\s*])?)\*(?![\w*])", r"<em>\1</em>", text)
    return re.sub("\0(\\d+)\0", lambda found: code[int(found[1])], text)
