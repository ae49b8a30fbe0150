"""The layer under the exercises: when it calls an attempt open, what it reads, what it compares."""

import copy

import numpy
import pytest
import torch
from torch import nn

from resnet_course.teaching import check, judge
from resnet_course.teaching.markup import marked


@check.exercise("0.1", expects="a function of a number", right="doubled.")
def double(attempt):
    got = check.number(check.call(attempt, 3), "the double")
    check.judge(got, 6, "the double of 3", [(9, "that is the square"), (3, "that is x", 2)], 1)


def stub(n):
    raise NotImplementedError


def with_a_message(n):
    raise NotImplementedError("later")


class Incomplete(nn.Module):
    """Without a forward."""


@pytest.mark.parametrize(
    "attempt", [..., [...], (..., ...), {"a": ..., "b": [...]}, stub, with_a_message]
)
def test_open_is_what_nobody_filled_in(attempt):
    assert double(attempt).status == "open"


@pytest.mark.parametrize(
    "attempt",
    [
        lambda n: nn.ModuleList([])(n),
        lambda n: Incomplete()(n),
        lambda n: nn.Module()(n),
        lambda n: torch.zeros(1, device="meta").item(),
        [],
        {},
        [..., 1],
    ],
)
def test_what_pytorch_does_not_implement_is_an_ordinary_mistake(attempt):
    verdict = double(attempt)
    assert verdict.status == "wrong" and "raise NotImplementedError" not in verdict.sentence


def test_every_turn_draws_anew_and_all_must_be_content():
    drawn = []

    @check.exercise("0.2", expects="anything", right="fine.", times=5)
    def draws(attempt):
        drawn.append((torch.rand(1).item(), numpy.random.rand()))
        attempt()
        check.expect(len(drawn) < 5 or attempt is not seeds, "Not in the fifth turn.")

    def seeds():
        torch.manual_seed(0)
        numpy.random.seed(0)

    assert draws(lambda: None).status == "right" and len(set(drawn)) == 5
    drawn.clear()
    assert draws(seeds).sentence == "Not in the fifth turn." and len(set(drawn)) == 5


def test_what_an_attempt_prints_is_printed_once(capsys):
    assert double(lambda n: print("here") or 2 * n).status == "right"
    assert capsys.readouterr().out == "here\n"


def test_a_cause_is_named_only_for_what_a_known_mistake_gives():
    assert double(lambda n: n * n).sentence.endswith("that is the square. See hint 1.")
    assert double(lambda n: n).sentence.endswith("that is x. See hint 2.")
    unknown = double(lambda n: 7)
    assert unknown.sentence == "Expected 6 for the double of 3, got 7. See hint 1."
    assert not unknown.named and double(lambda n: n).named


def test_two_mistakes_with_one_result_are_both_named_and_reported():
    known = [(4, "the square"), (4, "the double"), (5, "another")]
    assert check.cause(4, known) == "the square or the double"
    assert check.cause(6, known) is None
    assert check.cause(4, [*known, (4, "a third")]) is None
    with judge.alike() as found:
        check.cause(6, known)
    assert found and found[0] == {"the square", "the double"}
    with judge.alike() as found, pytest.raises(check.Mistake):
        check.judge(1, 4, "it", [(4, "a known mistake that is right here")])
    assert found


@pytest.mark.parametrize(
    ("wanted", "got", "sentence"),
    [
        (6, 7, "Expected 6 for it, got 7."),
        (11_689_512, 11_689_513.0, "Expected 11,689,512 for it, got 11,689,513."),
        (0.5, 0.50001, "Expected 0.5 for it, got 0.50001."),
        (
            torch.zeros(2, 2),
            torch.tensor([[0.0, 0], [0.25, 0]]),
            "Expected 0 at [1, 0] of it, where the gap is largest, got 0.25.",
        ),
        (torch.zeros(2), torch.zeros(3), "Expected shape (2,) for it, got (3,)."),
        (torch.zeros(2), torch.tensor([0, float("nan")]), "Expected 0 at [1] of it, where the gap"),
    ],
)
def test_a_fallback_shows_both_and_claims_nothing(wanted, got, sentence):
    with pytest.raises(check.Mistake) as found:
        check.fallback(wanted, got, "it")
    assert str(found.value).startswith(sentence) and not found.value.named


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("67", "write 67, without quotes."),
        ("1,116,416", "write 1116416, without quotes"),
        ("12,345.6", "write 12345.6, without quotes"),
        ("1 000", "write 1000, without quotes"),
        ("0,667", "write 0.667, without quotes"),
        ("1,000", "a decimal point as `.`, thousands without marks."),
        ("35,35", "a decimal point as `.`, thousands without marks."),
        ("1.116.416", "a decimal point as `.`, thousands without marks."),
        ("67 %", "0.67 if a fraction is asked for, 67 if per cent."),
        ("5 G", "a text: write a number alone, without quotes and units."),
        ("many", "got 'many'."),
        ((1, 1), "in Python a comma makes a tuple of values; a decimal point is written `.`"),
        ((35, 35), "in Python a comma makes a tuple of values; a decimal point is written `.`"),
        ((0, 667), "in Python a comma makes a tuple of values; a decimal point is written `.`"),
        ((1, 0), "in Python a comma makes a tuple of values; a decimal point is written `.`"),
        ((), "got ()."),
        (10**400, "Expected a finite number"),
        (1j, "got 1j."),
    ],
)
def test_numbers_in_other_forms_are_read_only_where_there_is_one_reading(value, sentence):
    with pytest.raises(check.Mistake) as found:
        check.number(value)
    assert sentence in str(found.value) and found.value.hint is None


@pytest.mark.parametrize(("unit", "meant"), [("fraction", "0.67, a"), ("per cent", "67, in per")])
def test_per_cent_where_the_exercise_says_what_it_wants(unit, meant):
    with pytest.raises(check.Mistake, match=meant):
        check.number("67 %", unit=unit)


@pytest.mark.parametrize(
    "value", [[1, 2], (1, 2.0), range(1, 3), torch.tensor([1, 2]), numpy.array([1, 2])]
)
def test_rows_of_every_kind(value):
    assert check.row(value, 2) == [1, 2]


def test_rows_that_are_none():
    with pytest.raises(check.Mistake, match="Expected 3 numbers for it, got 2"):
        check.row([1, 2], 3, "it")
    with pytest.raises(check.Mistake, match="Expected a list of 3 numbers for it, got 4"):
        check.row(4, 3, "it")
    with pytest.raises(check.Mistake, match="Expected a number for b, got 'x'"):
        check.row([1, "x"], 2, names=["a", "b"])


def network():
    return nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)))


LEFT_BEHIND = {
    "came in training mode and is in evaluation mode": lambda n: n[1][1].eval(),
    "`requires_grad` of `0.weight` is False": lambda n: n[0].requires_grad_(False),
    "the gradient of `0.weight` is new": lambda n: n[0](torch.ones(1, 2)).sum().backward(),
    "a hook was left on `0`": lambda n: n[0].register_forward_hook(lambda *_: None),
    "the dtype of `0.weight` is torch.float64": lambda n: n.double(),
    "running statistics": lambda n: n(torch.ones(3, 2)),
    "weights": lambda n: nn.init.zeros_(n[0].weight),
}


@pytest.mark.parametrize("words", LEFT_BEHIND)
def test_call_finds_whatever_a_function_left_on_a_network(words):
    def function(given):
        LEFT_BEHIND[words](given)
        return 1

    with pytest.raises(check.Mistake, match=words):
        check.call(function, network(), leave="all")


def test_call_lets_pass_what_it_was_not_asked_about():
    assert check.call(lambda n: n.eval() and 1, network()) == 1
    assert check.call(lambda n, t: 1, network(), {"a": [torch.ones(2)]}, leave="all") == 1
    x = torch.tensor([1.0, float("nan")])
    assert check.call(lambda x: 1, x, leave="all") == 1


def test_call_knows_gradients_that_were_there_before():
    given = network()
    given[0](torch.ones(1, 2)).sum().backward()
    kept = check.copied({"networks": [given], "weight": given[0].weight})
    assert torch.equal(kept["weight"].grad, given[0].weight.grad)
    assert kept["networks"][0][0].weight is kept["weight"]
    assert kept["weight"].grad is not given[0].weight.grad
    assert check.call(lambda n: 1, given, leave="all") == 1
    with pytest.raises(check.Mistake, match=r"gradient .* is another one"):
        check.call(lambda n: n[0].weight.grad.add_(1), given, leave="all")
    with pytest.raises(check.Mistake, match=r"gradient .* is lost"):
        check.call(lambda n: n.zero_grad() or 1, given, leave="all")


@pytest.mark.parametrize(
    ("given", "function"),
    [
        ({"a": 1, "b": 2}, lambda t: t.pop("a")),
        ([3, 1, 2], lambda t: t.sort() or 1),
        ({"a": torch.ones(2)}, lambda t: t["a"].zero_()),
        (numpy.ones(2), lambda t: t.fill(3) or 1),
        ({1, 2}, lambda t: t.pop()),
    ],
)
def test_call_finds_changed_tables(given, function):
    with pytest.raises(check.Mistake, match="changed its input in place"):
        check.call(function, given)


def test_gradients_of_parameters_are_compared():
    ours, x, factors = network()[0], torch.randn(3, 2), torch.randn(3, 2)
    theirs = copy.deepcopy(ours)
    wanted = check.gradients(theirs(x), theirs, factors)
    assert check.differing(check.gradients(ours(x), ours, factors), wanted) is None
    assert check.differing(check.gradients(2 * ours(x), ours, factors), wanted) == "weight"
    cut = check.gradients(x @ ours.weight.detach().T + ours.bias, ours, factors)
    assert check.differing(cut, wanted) == "weight"
    assert check.differing({**wanted, "more": x}, wanted) == "more"


def test_code_keeps_its_stars():
    said = "a `2*k*sum(n)` and `x**2`, *the `x` in* it; 2 * 3 * 4, y*z*w, *one*."
    assert marked(said) == (
        "a <code>2*k*sum(n)</code> and <code>x**2</code>, <em>the <code>x</code> in</em> it; "
        "2 * 3 * 4, y*z*w, <em>one</em>."
    )
