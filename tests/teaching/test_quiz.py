import importlib
import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

from resnet_course import exercises
from resnet_course.teaching import quiz
from resnet_course.teaching.quiz import Question

CHAPTERS = sorted(p.stem for p in Path(exercises.__file__).parent.glob("ch*.py"))
ONE = Question("Is `a < b` *here*?", [("Yes & no", "It is."), ("No", "Look <again>.")], right=0)


def questions_of(chapter):
    return importlib.import_module(f"resnet_course.exercises.{chapter}").QUIZ


def test_html_is_well_formed_and_escaped():
    html = quiz.show([ONE])._repr_html_()
    tree = ElementTree.fromstring(html)
    assert len(tree.findall(".//details/summary")) == 2
    assert "<code>a &lt; b</code> <em>here</em>" in html and "Yes &amp; no" in html
    assert "<script" not in html and "http" not in html


class Shown(HTMLParser):
    """The text that a browser shows with no style at all and every `<details>` closed."""

    def __init__(self):
        super().__init__()
        self.inside, self.text = [], ""

    def handle_starttag(self, tag, attributes):
        self.inside.append(tag)

    def handle_endtag(self, tag):
        self.inside.pop()

    def handle_data(self, data):
        closed = "details" in self.inside and "summary" not in self.inside
        if not closed and "style" not in self.inside:
            self.text += data


def test_feedback_stays_hidden_where_styles_are_taken_away():
    html = quiz.show([ONE])._repr_html_()
    stripped = re.sub(r"<style>.*?</style>| (?:class|style|id|name|aria-\w+)=\"[^\"]*\"", "", html)
    page = Shown()
    page.feed(stripped)
    assert "Yes & no" in page.text and "Is a < b here?" in page.text
    assert "It is." not in page.text and "Right." not in page.text and "open" not in stripped


def test_one_question_opens_one_answer_at_a_time():
    tree = ElementTree.fromstring(quiz.show([ONE, ONE])._repr_html_())
    names = [details.get("name") for details in tree.iter("details")]
    assert names[0] == names[1] != names[2] == names[3]


def test_plain_text_does_not_tell_the_answer_until_asked():
    shown = quiz.show([ONE])
    assert "b) No" in repr(shown) and "It is." not in repr(shown)
    assert shown.says(1, "a") == "Right. It is." and "Look <again>." in shown.says(1, "b")


def test_bad_right_option():
    with pytest.raises(ValueError, match="right must be an option"):
        quiz.show([Question("?", [("a", "b")], right=1)])


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_quizzes_of_the_chapters(chapter):
    questions = questions_of(chapter)
    assert 3 <= len(questions) <= 5
    for question in questions:
        assert len(question.options) >= 3
        feedback = [said for _, said in question.options]
        assert len(set(feedback)) == len(feedback) and all(len(said) > 15 for said in feedback)
        assert not re.search(r"\$|\\\(", question.text + "".join(feedback)), "no formulas here"
    assert len({question.right for question in questions}) > 1, "not always the same place"


def longest(question):
    return max(range(len(question.options)), key=lambda i: len(question.options[i][0]))


def shortest(question):
    return min(range(len(question.options)), key=lambda i: len(question.options[i][0]))


def place(k):
    return lambda question: k if k < len(question.options) else None


def word(start):
    """The first option that begins so, if it is alone in that; else no guess."""

    def pick(question):
        found = [i for i, (t, _) in enumerate(question.options) if re.match(rf"{start}\b", t)]
        return found[0] if len(found) == 1 else None

    return pick


SLACK = 1.5  # standard deviations above chance; 1.5 once the last chapter's quiz is balanced
STRATEGIES = {
    "the longest": longest,
    "the shortest": shortest,
    "the first": place(0),
    "the second": place(1),
    "the third": place(2),
    "No": word("No"),
    "Yes": word("Yes"),
}


def hits(pick, questions):
    """(how often a strategy is right, how often chance would be, its standard deviation)"""
    guessed = [(question, pick(question)) for question in questions]
    guessed = [(question, i) for question, i in guessed if i is not None]
    chances = [1 / len(question.options) for question, _ in guessed]
    deviation = math.sqrt(sum(p * (1 - p) for p in chances))
    return sum(i == question.right for question, i in guessed), sum(chances), deviation


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_way_to_guess_beats_chance_over_the_whole_book(name):
    questions = [question for chapter in CHAPTERS for question in questions_of(chapter)]
    found, chance, deviation = hits(STRATEGIES[name], questions)
    assert found <= chance + SLACK * deviation, f"{found}, by chance {chance:.1f}"


def test_the_test_of_guessing_can_fail():
    options = [("A long and careful answer", "a" * 16), ("b", "b" * 16), ("c", "c" * 16)]
    found, chance, deviation = hits(longest, [Question("?", options, right=0)] * 9)
    assert found > chance + SLACK * deviation
