"""Quizzes that need no kernel, no network and no script: HTML radio buttons, shown by CSS.

They work by keyboard and with screen readers, in the built page, in Jupyter and in Colab.
"""

import hashlib
from dataclasses import dataclass

from .markup import marked

STYLE = """<style>
.course-quiz fieldset{border:1px solid #808080;border-radius:6px;margin:1em 0;padding:.5em 1em}
.course-quiz legend{font-weight:600;float:left;width:100%;font-size:1em;margin:.2em 0}
.course-quiz legend+*{clear:both}
.course-quiz label{display:flex;gap:.6em;align-items:baseline;padding:.25em 0;cursor:pointer}
.course-quiz p{display:none;margin:.4em 0;padding:.2em .8em;border-left:4px solid #D55E00}
.course-quiz p.right{border-color:#009E73}
@RULES@</style>"""


@dataclass(frozen=True)
class Question:
    """`options` is a list of (text, feedback); `right` is the number of the right one, from 0.

    `code` and *emphasis* are marked as in Markdown.
    """

    text: str
    options: list
    right: int


class Quiz:
    """What `show` returns: rich in a notebook or page, plain in a terminal."""

    def __init__(self, questions):
        self.questions = questions

    def __repr__(self):
        lines = []
        for number, question in enumerate(self.questions, 1):
            lines.append(f"{number}. {question.text}")
            lines += [f"   ( ) {text}" for text, _ in question.options]
        return "\n".join(lines)

    def _repr_html_(self):
        name = "q" + hashlib.sha256(repr(self).encode()).hexdigest()[:8]
        most = max(len(question.options) for question in self.questions)
        rules = "\n".join(
            f'.course-quiz fieldset:has(input[value="{i}"]:checked) .a{i}{{display:block}}'
            for i in range(most)
        )
        body = "".join(
            _fieldset(question, number, f"{name}-{number}")
            for number, question in enumerate(self.questions, 1)
        )
        style = STYLE.replace("@RULES@", rules)
        return f'<div class="course-output course-quiz">{style}{body}</div>'


def show(questions):
    """Show a list of `Question`s: choose an option, read what it says."""
    for question in questions:
        if not 0 <= question.right < len(question.options):
            raise ValueError(f"right must be an option of {question.text!r}, got {question.right}")
    return Quiz(list(questions))


def _fieldset(question, number, name):
    options = "".join(
        f'<label><input type="radio" name="{name}" value="{i}"> <span>{marked(text)}</span></label>'
        for i, (text, _) in enumerate(question.options)
    )
    feedback = "".join(_feedback(question, i) for i in range(len(question.options)))
    return (
        f"<fieldset><legend>{number}. {marked(question.text)}</legend>{options}"
        f'<div role="status">{feedback}</div></fieldset>'
    )


def _feedback(question, i):
    right = i == question.right
    look, word = ("right", "Right.") if right else ("wrong", "Not quite.")
    return f'<p class="a{i} {look}"><b>{word}</b> {marked(question.options[i][1])}</p>'
