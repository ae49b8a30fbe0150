"""Quizzes that need no kernel, no network, no script and no style: an option opens its feedback.

They work by keyboard and with screen readers, in the built page, in Jupyter and in Colab, and also
where a notebook is not trusted and styles are taken away.
"""

import hashlib
from dataclasses import dataclass

from .markup import marked

STYLE = """<style>
.course-quiz section{border:1px solid #808080;border-radius:6px;margin:1em 0;padding:.5em 1em}
.course-quiz .question{font-weight:600;margin:.2em 0}
.course-quiz details{margin:0;padding:.25em 0;border:0;background:none;box-shadow:none}
.course-quiz summary{cursor:pointer}
.course-quiz details p{margin:.4em 0;padding:.2em .8em;border-left:4px solid #D55E00}
.course-quiz details p.right{border-color:#009E73}
</style>"""


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
            lines += [f"   {_letter(i)}) {text}" for i, (text, _) in enumerate(question.options)]
        lines.append('To answer, for instance, question 1 with b: quiz.show(...).says(1, "b")')
        return "\n".join(lines)

    def says(self, number, letter):
        """The feedback to one option, as text: for a terminal."""
        question = self.questions[number - 1]
        i = [_letter(i) for i in range(len(question.options))].index(letter)
        return f"{_word(question, i)} {question.options[i][1]}"

    def _repr_html_(self):
        name = "q" + hashlib.sha256(repr(self).encode()).hexdigest()[:8]
        body = "".join(
            _section(question, number, f"{name}-{number}")
            for number, question in enumerate(self.questions, 1)
        )
        return f'<div class="course-output course-quiz">{STYLE}{body}</div>'


def show(questions):
    """Show a list of `Question`s: choose an option, read what it says."""
    for question in questions:
        if not 0 <= question.right < len(question.options):
            raise ValueError(f"right must be an option of {question.text!r}, got {question.right}")
    return Quiz(list(questions))


def _letter(i):
    return "abcdefgh"[i]


def _word(question, i):
    return "Right." if i == question.right else "Not quite."


def _section(question, number, name):
    """One question. Options that share a `name` close each other, where a browser knows it."""
    options = "".join(
        f'<details name="{name}"><summary>{marked(text)}</summary>'
        f'<p class="{"right" if i == question.right else "wrong"}"><b>{_word(question, i)}</b> '
        f"{marked(said)}</p></details>"
        for i, (text, said) in enumerate(question.options)
    )
    return (
        f'<section aria-labelledby="{name}"><p class="question" id="{name}">{number}. '
        f"{marked(question.text)}</p>{options}</section>"
    )
