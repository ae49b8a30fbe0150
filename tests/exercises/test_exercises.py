"""Every exercise: what it says to right, wrong and hostile answers, and what the chapter prints."""

import ast
import importlib
import os
import random
import re
from pathlib import Path

import nbformat
import numpy
import pytest
import torch

from resnet_course.teaching import check, judge

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "tests" / "exercises").glob("ch*.py"))


def module(chapter):
    return importlib.import_module(f"resnet_course.exercises.{chapter}")


def banks(chapter):
    return importlib.import_module(f"exercises.{chapter}").BANKS


REPEATS = 8

EVERY = [(chapter, name) for chapter in CHAPTERS for name in banks(chapter)]
every = pytest.mark.parametrize(("chapter", "name"), EVERY, ids=[f"{c}-{n}" for c, n in EVERY])
RIGHT = [(c, n, i) for c, n in EVERY for i in range(len(banks(c)[n].right))]
WRONG = [(c, n, i) for c, n in EVERY for i in range(len(banks(c)[n].wrong))]


class Counted:
    """The module `random`, but `seed()` without a value takes the next of a fixed sequence."""

    def __init__(self, start):
        self.start, self.calls = start, 0

    def __getattr__(self, name):
        return getattr(random, name)

    def seed(self, *value):
        self.calls += 1
        random.seed(*(value or (f"{self.start} {self.calls}",)))


@pytest.fixture(autouse=True)
def the_same_draws_every_time(request, monkeypatch):
    """A test draws many times, and the same each time it runs: a failure can be looked at again.

    RESNET_COURSE_DRAWS=7, say, draws others.
    """
    start = os.environ.get("RESNET_COURSE_DRAWS", "0") + request.node.name
    monkeypatch.setattr(check, "random", Counted(start))


class Hostile:
    """An object that fails whatever is asked of it."""

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    def __repr__(self):
        raise RuntimeError("no name")

    __hash__ = None


def leave(*_):
    raise SystemExit


def stop(*_):
    raise ZeroDivisionError("division by zero")


def tamper(*_):
    torch.manual_seed(0)
    random.seed(0)
    numpy.random.seed(0)
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)


HOSTILE = [
    None,
    "text",
    -1e300,
    float("nan"),
    [],
    {},
    object(),
    Hostile(),
    type,
    torch.zeros(0),
    torch.full((3,), float("nan")),
    leave,
    stop,
    tamper,
    lambda: 1,
    lambda *_: Hostile(),
    lambda *_: float("nan"),
    lambda *_: torch.zeros(0),
    lambda *_: "text",
]


def is_one_calm_sentence(verdict):
    text = repr(verdict)
    assert "\n" not in text and "Traceback" not in text and len(text) < 500, text
    assert text.rstrip().endswith((".", "?", ")", "!")), text
    assert "course-check" in verdict._repr_html_()


def answer(chapter, name, attempt):
    verdict = getattr(module(chapter), name)(attempt, *banks(chapter)[name].given)
    is_one_calm_sentence(verdict)
    return verdict


@pytest.mark.parametrize(("chapter", "name", "i"), RIGHT, ids=[f"{c}-{n}-{i}" for c, n, i in RIGHT])
def test_right_answers_are_accepted(chapter, name, i):
    verdict = answer(chapter, name, banks(chapter)[name].right[i])
    assert verdict.status == "right", verdict


@pytest.mark.parametrize(("chapter", "name", "i"), WRONG, ids=[f"{c}-{n}-{i}" for c, n, i in WRONG])
def test_wrong_answers_get_their_own_sentence(chapter, name, i):
    attempt, phrase = banks(chapter)[name].wrong[i]
    verdict = answer(chapter, name, attempt)
    assert verdict.status == "wrong" and phrase in verdict.sentence, verdict


def masked(sentence):
    """The sentence without its figures: lists of numbers, also cut ones, become one mark."""
    number = r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?"
    text = re.sub(number, "#", re.sub(r",?[\[\]()…]", "", sentence))
    return re.sub(r"#(?:(?:, | × )#)+", "#", text)


@every
def test_the_bank_is_large_enough(chapter, name):
    bank = banks(chapter)[name]
    assert len(bank.right) >= 4 and len(bank.wrong) >= 8


@every
def test_each_mistake_has_one_sentence_of_its_own_whatever_is_drawn(chapter, name):
    """Again and again the same verdict and the same words.

    Figures differ only where a sentence shows what came.
    """
    wrong = banks(chapter)[name].wrong
    for attempt, phrase in wrong:
        verdicts = [answer(chapter, name, attempt) for _ in range(REPEATS)]
        assert {verdict.status for verdict in verdicts} == {"wrong"}, (phrase, verdicts)
        said = {verdict.sentence for verdict in verdicts}
        assert all(phrase in sentence for sentence in said), (phrase, said)
        assert len({masked(sentence) for sentence in said}) == 1, (phrase, said)
        if not all(", got " in sentence for sentence in said):
            assert len(said) == 1, (phrase, said)
        for _, other in wrong:
            assert other == phrase or all(other not in s for s in said), (other, said)


@every
def test_right_answers_are_right_whatever_is_drawn(chapter, name):
    for attempt in banks(chapter)[name].right:
        verdicts = [answer(chapter, name, attempt) for _ in range(2)]  # of several turns each
        assert {verdict.status for verdict in verdicts} == {"right"}, verdicts
        assert len({masked(verdict.sentence) for verdict in verdicts}) == 1, verdicts
        assert verdicts[0].sentence.endswith("."), "what a right answer was checked against"


@every
def test_the_cases_tell_the_known_mistakes_apart(chapter, name):
    """For every case in which an answer is wrong, the known mistakes give different results.

    `judge` and `cause` say which do not. Choose another case, or give both the same words.
    """
    with judge.alike() as found:
        for attempt, _ in banks(chapter)[name].wrong:
            answer(chapter, name, attempt)
    assert not found, found


@every
def test_hostile_answers_get_a_sentence_and_leave_nothing_behind(chapter, name):
    torch.manual_seed(5)
    states = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist()
    for attempt in HOSTILE:
        verdict = answer(chapter, name, attempt)
        assert verdict.status == "wrong", (attempt, verdict)
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert states[2] == numpy.random.get_state()[1].tolist()
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32


@every
def test_not_attempted_is_calm(chapter, name):
    def stub(*_):
        raise NotImplementedError

    for untouched in (..., [...], {"a": ..., "b": [..., ...]}):
        assert answer(chapter, name, untouched).status == "open"
    bank = banks(chapter)[name]
    if any(callable(right) for right in bank.right):
        assert answer(chapter, name, stub).status == "open"


def notebook_of(chapter):
    return nbformat.read(next((ROOT / "book").glob(f"{chapter[2:]}_*.ipynb")), as_version=4)


def printed(chapter):
    """{check: (name of the attempt, stub, number of hints, number, solution)} as in the chapter."""
    found, number, stub, hints = {}, None, "", 0
    waiting = []
    for cell in notebook_of(chapter).cells:
        heading = re.search(r"^### Exercise (\d+\.\d+)", cell.source, re.M)
        if heading:
            number, hints = heading[1], 0
        hints += cell.source.count("<summary>Hint")
        call = re.search(rf"^{chapter}\.(\w+)\(.*\)$", cell.source, re.M | re.S)
        if cell.cell_type == "code" and call and call[1] != "QUIZ":
            node = next(
                n
                for n in ast.walk(ast.parse(cell.source))
                if isinstance(n, ast.Call) and getattr(n.func, "attr", None) == call[1]
            )
            waiting.append((call[1], node.args[0].id, stub, hints, number))
        elif cell.cell_type == "code":
            stub = cell.source
        solution = re.search(
            r"<summary>Solution</summary>.*?```py(?:thon)?\n(.*?)```", cell.source, re.S
        )
        if solution:
            check_name, *rest = waiting.pop()
            found[check_name] = (*rest, solution[1])
    assert not waiting, f"no folded solution for {waiting}"
    return found


def imports(chapter):
    code = [cell for cell in notebook_of(chapter).cells if cell.cell_type == "code"]
    return code[1].source


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_prints_every_exercise(chapter):
    exercises = printed(chapter)
    assert set(exercises) == set(banks(chapter))
    assert 3 <= len(exercises) <= 6
    for name, (_, _, hints, number, _) in exercises.items():
        assert getattr(module(chapter), name).number == number
        assert hints >= 2, f"hints of {name}"
    for name, bank in banks(chapter).items():  # every hint that a sentence names exists
        for attempt, _ in bank.wrong:
            named = re.search(r"See hint (\d)", answer(chapter, name, attempt).sentence)
            assert not named or int(named[1]) <= exercises[name][2]


@every
def test_printed_solution_passes_and_stub_is_open(chapter, name):
    attempt, stub, _, _, solution = printed(chapter)[name]
    for code, status in ((stub, "open"), (solution, "right")):
        space = {}
        exec(imports(chapter), space)
        exec(code, space)
        verdict = answer(chapter, name, space[attempt])
        assert verdict.status == status, (code, verdict)


def test_verdicts_in_a_page_are_escaped():
    html = check.Verdict("1.1", "wrong", 'Expected <b>, got & "x".')._repr_html_()
    assert "&lt;b&gt;" in html and 'role="status"' in html


def test_a_check_copies_what_it_is_given():
    @check.exercise("0.1", expects="a network", right="fine.")
    def examine(attempt, network):
        attempt.eval()
        network.weight.data.zero_()
        network(torch.zeros(1, 2)).sum().backward()

    attempt, network = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert examine(attempt, network).status == "right"
    assert attempt.training and network.weight.any() and network.weight.grad is None


def test_an_exception_names_the_learner_s_line():
    @check.exercise("0.2", expects="a function of a number", right="fine.")
    def examine(attempt):
        check.call(attempt, 1)

    sentence = examine(lambda n: n + "1").sentence
    assert "a function of a number" in sentence and "TypeError" in sentence
    assert '`sentence = examine(lambda n: n + "1").sentence`' in sentence


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(3, 3), (2.5, 2.5), (numpy.float32(2), 2), (torch.tensor([[4.0]]), 4), (numpy.array(1), 1)],
)
def test_numbers_of_every_kind(value, wanted):
    assert check.number(value) == wanted


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda: check.number(True), "Expected a number for the answer, got True."),
        (lambda: check.number(torch.zeros(2)), "Expected one number"),
        (lambda: check.number(float("inf")), "finite number"),
        (lambda: check.number("1,116,416"), "write 1116416, without quotes"),
        (lambda: check.number("many"), "Expected a number for the answer, got 'many'."),
        (lambda: check.number(()), r"got \(\)\."),
        (lambda: check.tensor(torch.zeros(2), (3,)), r"Expected shape \(3,\)"),
        (lambda: check.tensor([1.0], (1,)), "Expected a tensor"),
        (lambda: check.choice("d", ["a", "b"]), 'Expected one of "a", "b" for the answer'),
        (lambda: check.choices({"x": "A"}, "AB", ["x", "y"], "case"), "not vice versa"),
        (lambda: check.choices({"a": "x", "b": "y"}, "AB", ["x", "y"], "case"), "capitals, A to B"),
        (
            lambda: check.choices({"A": "x"}, "AB", ["x", "y"], "case"),
            "each of A to B; B is missing",
        ),
        (
            lambda: check.choices(["x", "y"], "AB", ["x", "y"], "case"),
            "Expected a dictionary, like",
        ),
        (lambda: check.call(5), "Expected a function, got 5"),
        (lambda: check.call(lambda: None), "does it end with `return`"),
        (lambda: check.call(lambda x: x.add_(1), torch.zeros(1)), "changed its input in place"),
        (lambda: check.call(lambda x: x.append(1) or x, [0]), "changed its input in place"),
        (lambda: check.call(lambda d: d["w"].zero_(), {"w": torch.ones(2)}), "in place"),
        (lambda: check.call(lambda m: m(torch.zeros(2, 1)), torch.nn.BatchNorm1d(1)), "in place"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(function, sentence):
    with pytest.raises(check.Mistake, match=sentence):
        function()
