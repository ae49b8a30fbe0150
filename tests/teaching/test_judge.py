import pytest
import torch

from resnet_course.teaching import judge

WANTED = torch.tensor([1.0, -2.0, 0.0, 3.0])


@pytest.mark.parametrize(
    ("got", "words"),
    [
        (3 * WANTED, "too large by one and the same factor"),
        (WANTED / 7, "too small by one and the same factor"),
        (-WANTED, "every value has the other sign"),
        (-2 * WANTED, "too large by one and the same factor, and has the other sign"),
    ],
)
def test_a_factor_is_told(got, words):
    assert judge.proportion(got, WANTED).endswith(words)


@pytest.mark.parametrize("got", [WANTED, WANTED + 1, 0 * WANTED, WANTED[:3], WANTED**2])
def test_nothing_is_told_where_there_is_no_factor(got):
    assert judge.proportion(got, WANTED) is None


def test_a_single_number_is_always_in_proportion_and_says_nothing():
    assert judge.proportion(torch.tensor([2.0]), torch.tensor([1.0])) is None
