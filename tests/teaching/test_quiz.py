import importlib
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from resnet_course.teaching import quiz
from resnet_course.teaching.quiz import Question

CHAPTERS = [p.stem for p in (Path(quiz.__file__).parent / "exercises").glob("ch*.py")]
ONE = Question("Is `a < b` *here*?", [("Yes & no", "It is."), ("No", "Look <again>.")], right=0)


def test_html_is_well_formed_and_escaped():
    html = quiz.show([ONE])._repr_html_()
    tree = ElementTree.fromstring(re.sub(r"(<input [^>]*)>", r"\1/>", html))
    assert len(tree.findall(".//input")) == 2
    assert "<code>a &lt; b</code> <em>here</em>" in html and "Yes &amp; no" in html
    assert "<script" not in html and "http" not in html


def test_plain_text_does_not_tell_the_answer():
    text = repr(quiz.show([ONE]))
    assert "( ) No" in text and "It is." not in text


def test_bad_right_option():
    with pytest.raises(ValueError, match="right must be an option"):
        quiz.show([Question("?", [("a", "b")], right=1)])


@pytest.mark.parametrize("chapter", sorted(CHAPTERS))
def test_quizzes_of_the_chapters(chapter):
    questions = importlib.import_module(f"resnet_course.exercises.{chapter}").QUIZ
    assert 3 <= len(questions) <= 5
    for question in questions:
        assert len(question.options) >= 3
        feedback = [said for _, said in question.options]
        assert len(set(feedback)) == len(feedback) and all(len(said) > 15 for said in feedback)
        assert not re.search(r"\$|\\\(", question.text + "".join(feedback)), "no formulas here"
    assert len({question.right for question in questions}) > 1, "not always the same place"
