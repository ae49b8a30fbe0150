"""What a bank of answers is made of; the banks are in tests/exercises/chNN.py."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Bank:
    """Answers to one exercise.

    `right` lists correct variants. `wrong` lists (attempt, phrase): the check must reject the
    attempt with a sentence that holds the phrase. Attempts with the same mistake have the same
    phrase; the phrase of another mistake must not fit.
    `given` are the check's other arguments. The folded solution comes from the chapter itself.
    """

    right: list
    wrong: list
    given: tuple = field(default=())
