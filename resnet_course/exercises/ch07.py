"""Chapter 07, degradation, solved: checks and quiz."""

import copy
import math
import random
import statistics

import torch
from torch import nn
from torch.nn import functional as F

from resnet_course.teaching.check import (
    Mistake,
    call,
    close,
    exercise,
    expect,
    number,
    show,
    tensor,
)
from resnet_course.teaching.quiz import Question


@exercise(
    "7.1",
    expects="a function of network, optimizer, images and labels",
    right="after four updates, with momentum and batch norm, your weights and losses are those "
    "of the chapter's loop.",
)
def update_step(attempt):
    """A function: (network, optimizer, images, labels) -> the loss of the batch, a number."""
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.")
    theirs, seen, losses = _small_network(), [], []
    start = copy.deepcopy(theirs)
    ours = {name: copy.deepcopy(theirs) for name in STEPS}
    rates = {name: _sgd(network) for name, network in ours.items()}
    optimizer = _sgd(theirs)
    theirs[1].weight.register_hook(lambda gradient: seen.append("backward"))
    optimizer.register_step_pre_hook(lambda *_: seen.append("step"))
    for _ in range(4):
        images, labels = torch.randn(16, 1, 4, 4) + 1, torch.randint(5, (16,))
        before = _loss(theirs, images, labels)
        seen.clear()
        got = _loss_as_number(attempt(theirs, optimizer, images, labels), seen)
        losses.append((got, before, _loss(theirs, images, labels)))
        for name, step in STEPS.items():
            step(ours[name], rates[name], images, labels)
    _judge_weights(theirs, {**ours, "nothing": start})
    for got, before, after in losses:
        expect(
            abs(got - before) < 1e-3 * max(1.0, before),
            f"The weights are right, the loss is not: expected {before:.4g}, got {got:.4g}; "
            + (
                "that is the loss *after* the update, which costs a second forward pass."
                if abs(got - after) < 1e-3
                else "that is the sum over the batch of 16; return the mean."
                if abs(got / 16 - before) < 1e-3 * max(1.0, before)
                else "return the loss whose gradient you took."
            ),
        )


def _small_network():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 5))


def _sgd(network):
    return torch.optim.SGD(network.parameters(), lr=0.5, momentum=0.9)


def _make_step(loss_of, training=True, zero=True):
    def step(network, optimizer, images, labels):
        network.train(training)
        loss = loss_of(network(images), labels)
        if zero:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


STEPS = {  # the right one, and those that are often written in its place
    "right": _make_step(F.cross_entropy),
    "adds up": _make_step(F.cross_entropy, zero=False),
    "softmax": _make_step(lambda y, t: F.cross_entropy(y.softmax(1), t)),
    "no logarithm": _make_step(lambda y, t: F.nll_loss(y.softmax(1), t)),
    "sum": _make_step(lambda y, t: F.cross_entropy(y, t, reduction="sum")),
    "eval": _make_step(F.cross_entropy, training=False),
    "uphill": _make_step(lambda y, t: -F.cross_entropy(y, t)),
}


@torch.no_grad()
def _loss(network, images, labels):
    return F.cross_entropy(copy.deepcopy(network)(images), labels).item()


def _loss_as_number(got, seen):
    """The returned loss, once it is sure that one backward pass and one step were made."""
    backward, step = seen.count("backward"), seen.count("step")
    expect(
        backward,
        "No gradient was computed: call `backward()` on the loss of the network it is given.",
    )
    expect(step, "The gradients were computed and never used: `optimizer.step()` is missing.")
    expect(
        seen.index("backward") < seen.index("step"),
        "`optimizer.step()` came before `backward()`: it could only use older gradients.",
    )
    expect(
        backward == step == 1,
        f"One batch makes one update; here `backward()` ran {backward} times and `step()` "
        f"{step} times.",
    )
    expect(got is not None, "The function returned None: does it end with `return`?")
    if isinstance(got, torch.Tensor):
        expect(
            not got.requires_grad,
            "The loss came back with the graph it was computed in: whoever adds such losses up "
            "keeps every batch in memory; `loss.item()` is the number alone.",
            2,
        )
    return number(got, "the loss")


def _judge_weights(theirs, ours):
    def same(name):
        a, b = dict(theirs.named_parameters()), dict(ours[name].named_parameters())
        return all(close(a[key].detach(), b[key].detach(), 1e-3) for key in a)

    why = {
        "nothing": "they have not moved; the gradients were set to zero after `backward()` and "
        "before `step()`, so the step had nothing to use",
        "adds up": "the gradients of earlier batches were added to the new ones; `backward()` "
        "adds, so they must be set to zero in between",
        "softmax": "`cross_entropy` takes the raw outputs and does the softmax itself; here it "
        "was done twice",
        "no logarithm": "`nll_loss` wants logarithms of probabilities and got probabilities; "
        "`cross_entropy` of the raw outputs does it all",
        "sum": "the gradient is that of the *sum* over the batch, 16 times too large; "
        "`cross_entropy` takes the mean unless told otherwise",
        "eval": "the network was in evaluation mode, so batch norm did not use this batch",
        "uphill": "they went *up* the gradient; the optimizer subtracts it already",
    }
    reason = next((why[name] for name in why if same(name)), None)
    reason = reason or "one forward pass, one `backward()` and one `step()` make an update"
    sentence = f"The weights after four updates are not the right ones: {reason}."
    expect(same("right"), sentence, 2)


@exercise(
    "7.2",
    expects="a function of the number of updates done",
    right="the rate is right at every boundary and between them.",
)
def paper_rate(attempt):
    """A function: number of updates done -> learning rate of the next update."""
    phases = [(0, 399, 0.01), (400, 31_999, 0.1), (32_000, 47_999, 0.01), (48_000, 63_999, 0.001)]

    def ask(updates):
        rate = number(call(attempt, updates), f"the rate after {updates:,} updates")
        expect(
            abs(rate) < 0.5,
            f"After {updates:,} updates the rate is {rate:g}: that is a *factor*; multiply the "
            "base rate 0.1 by it.",
        )
        return rate

    inside = [random.randrange(first + 1, last) for first, last, _ in phases]
    got = [ask(updates) for updates in inside]
    reason = _why_rate(ask(0), *got)
    for updates, rate, (_, _, wanted) in zip(inside, got, phases, strict=True):
        sentence = f"Expected a rate of {wanted:g} after {updates:,} updates, got {rate:g}"
        expect(_near(rate, wanted), f"{sentence}: {reason}.", 2)
    for first, last, wanted in phases:
        for updates in (first, last):
            rate = ask(updates)
            if updates != first:
                reason = f"the change comes too early; {updates:,} are not yet {updates + 1:,}"
            elif first == 32_000 and not _near(ask(32_399), wanted):
                reason = "the 32,000 updates are counted from the start, the warm-up among them"
            else:
                reason = f"the change comes too late; with {updates:,} done it must be there"
            expect(
                _near(rate, wanted),
                f"Expected a rate of {wanted:g} after {updates:,} updates, got {rate:g}: {reason}.",
                1,
            )


def _why_rate(first, early, plain, drop, second_drop):
    """The likely cause, from the rate at 0 and somewhere inside each of the four phases."""
    if _near(early, 0.1):
        return "it is 0.1 already, so the warm-up is missing"
    if first < early:
        return (
            f"it rises from {first:.3g} on; many recipes do that, but the paper's warm-up is one "
            "constant rate"
        )
    if _near(early, 0.001):
        return "the warm-up is a tenth of the rate, not a hundredth"
    if plain < 0.05:
        return "the warm-up must end after 400 updates, and milestones are updates, not epochs"
    if _near(drop, 0.1):
        return "the first division by 10 is missing"
    if drop < 0.005:
        return "the rate was divided by more than 10 at the first drop"
    if _near(drop, 0.01) and _near(second_drop, drop):
        return "the second division by 10 is missing"
    if second_drop < 0.0005:
        return "the two drops make 1/100 in all; more was divided"
    return "the rates are 0.01, 0.1, 0.01 and 0.001 in turn"


def _near(value, wanted):
    return abs(value - wanted) < 1e-3 * wanted


@exercise(
    "7.3",
    expects="a function of weight, gradient, velocity, lr, momentum and weight_decay",
    right="six updates, with a drop of the rate in the middle, end where `torch.optim.SGD` ends.",
)
def momentum_update(attempt):
    """(weight, gradient, velocity, lr, momentum, weight_decay) -> (weight, velocity), new ones."""
    start = torch.randn(3, 4)
    target, rates = torch.randn(3, 4), [0.1, 0.1, 0.1, 0.01, 0.01, 0.01]
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.")

    def run(update):
        weight, velocity, path = start.clone(), torch.zeros_like(start), []
        for rate in rates:
            result = call(update, weight, weight - target, velocity, rate, 0.9, 0.3)
            expect(
                isinstance(result, tuple | list) and len(result) == 2,
                f"Expected two tensors, the new weight and the new velocity, got {show(result)}.",
            )
            weight = tensor(result[0], start.shape, "the new weight").float()
            velocity = tensor(result[1], start.shape, "the new velocity").float()
            path.append(weight)
        return path

    got, wanted = run(attempt), run(UPDATES["right"])
    if all(close(a, b) for a, b in zip(got, wanted, strict=True)):
        return
    known = {
        "rate inside": "up to the drop it is right; with the rate inside the velocity, as some "
        "libraries have it, the old rate lives on after a drop",
        "average": "the new gradient was scaled by 1 - momentum; PyTorch adds it whole "
        "(`dampening` is 0)",
        "no decay": "the weight decay is missing; it adds weight_decay · weight to the gradient",
        "decay after": "the weight decay must go into the gradient, and so into the velocity; "
        "beside the velocity is the way of AdamW",
        "decay sign": "weight decay is *added* to the gradient, so that the step shrinks the "
        "weight",
        "nesterov": "that is the Nesterov form, which PyTorch does only if asked",
        "old velocity": "the step must use the *new* velocity",
        "no momentum": "the velocity was never used: momentum · velocity is what is kept of it",
        "decay twice": "the weight decay is twice too large; the gradient of λ/2 · w² is λ · w",
        "uphill": "the step goes up the gradient; it must be subtracted",
        "swapped": "the two results are swapped: first the weight, then the velocity",
    }
    for name, reason in known.items():
        path = run(UPDATES[name])
        if all(close(a, b) for a, b in zip(got, path, strict=True)):
            raise Mistake(f"Not what `torch.optim.SGD` does: {reason}.", 2)
    step = next(i for i, (a, b) in enumerate(zip(got, wanted, strict=True)) if not close(a, b))
    raise Mistake(
        f"Update {step + 1} of 6 is the first that differs from `torch.optim.SGD`'s: check in this "
        "order what joins the gradient, what becomes of the velocity, and what moves the weight.",
        2,
    )


def _velocity(w, g, v, m, d):
    return m * v + g + d * w


UPDATES = {
    "right": lambda w, g, v, r, m, d: (w - r * _velocity(w, g, v, m, d), _velocity(w, g, v, m, d)),
    "rate inside": lambda w, g, v, r, m, d: (
        w - (m * v + r * (g + d * w)),
        m * v + r * (g + d * w),
    ),
    "average": lambda w, g, v, r, m, d: (
        w - r * (m * v + (1 - m) * (g + d * w)),
        m * v + (1 - m) * (g + d * w),
    ),
    "no decay": lambda w, g, v, r, m, d: (w - r * (m * v + g), m * v + g),
    "decay after": lambda w, g, v, r, m, d: (w - r * (m * v + g) - r * d * w, m * v + g),
    "decay sign": lambda w, g, v, r, m, d: (w - r * (m * v + g - d * w), m * v + g - d * w),
    "decay twice": lambda w, g, v, r, m, d: UPDATES["right"](w, g, v, r, m, 2 * d),
    "nesterov": lambda w, g, v, r, m, d: (
        w - r * (g + d * w + m * _velocity(w, g, v, m, d)),
        _velocity(w, g, v, m, d),
    ),
    "old velocity": lambda w, g, v, r, m, d: (w - r * v, _velocity(w, g, v, m, d)),
    "no momentum": lambda w, g, v, r, m, d: (w - r * (g + d * w), v),
    "uphill": lambda w, g, v, r, m, d: (
        w + r * _velocity(w, g, v, m, d),
        _velocity(w, g, v, m, d),
    ),
    "swapped": lambda w, g, v, r, m, d: (
        _velocity(w, g, v, m, d),
        w - r * _velocity(w, g, v, m, d),
    ),
}


@exercise(
    "7.4",
    expects="a number, the ratio you predict",
    right="variances add.",
)
def predict_branch(attempt, ratio_56, ratio_110):
    """std(F) / std(x) in the last block of residual-110 before training, from residual-56's."""
    guess = number(attempt, "the ratio")
    expect(guess > 0, f"A ratio of two deviations is positive, got {guess:g}.")
    known = [
        (ratio_56, "with the same ratio, x would not have grown over the added blocks."),
        (
            ratio_56 / 2,
            "that is half, as if the *deviation* of x grew by the same amount in each block; is "
            "it the deviation that adds up?",
        ),
        (
            ratio_56**2,
            "that is the square, as if each block *multiplied*; with batch norm, blocks add.",
        ),
        (ratio_56 * 2**0.5, "x grows with depth, so F becomes smaller beside it, not larger."),
        (ratio_56 * 2, "twice as many blocks make x larger, and F stays as it is."),
    ]
    for value, reason in known:
        if abs(guess / value - 1) < 0.06 and abs(guess / ratio_110 - 1) > 0.1:
            facts = f"Residual-56 has {ratio_56:.2f}, you predicted {guess:.2g} for residual-110"
            raise Mistake(f"{facts}: {reason}", 1)
    away = max(guess / ratio_110, ratio_110 / guess)
    sentence = f"{guess:.2g} is off by a factor of {away:.1f}: how does std(x) grow with depth?"
    expect(away < 1.2, sentence, 2)
    return (
        f"residual-56 measures {ratio_56:.2f}, residual-110 {ratio_110:.2f}, you predicted "
        f"{guess:.2g}: variances add, so std(x) grows like the root of the number of blocks."
    )


@exercise(
    "7.5",
    expects="a function of two lists of errors",
    right="your number is right on random lists of different lengths. As a rule of thumb, below "
    "2 a gap may well be chance; with very few seeds ask for more than 2.",
)
def gap_in_noise(attempt):
    """A function: (errors of A, errors of B) -> (mean A - mean B) in standard errors."""
    for sizes, more in (((5, 3), 3), ((4, 6), -3), ((2, 7), 0)):  # A is worse, better, either
        a = [random.uniform(5, 7) + more for _ in range(sizes[0])]
        b = [random.uniform(5, 7) for _ in range(sizes[1])]
        got = number(call(attempt, a, b), "the gap in standard errors")
        wanted = _gap(a, b)
        sentence = (
            f"For lists of {sizes[0]} and {sizes[1]} errors expected {wanted:.4g}, got {got:.4g}"
        )
        expect(close(got, wanted), f"{sentence}: {_why_gap(a, b, got)}.", 2)


def _gap(a, b, variance=statistics.variance, divide=True):
    noise = sum(variance(x) / (len(x) if divide else 1) for x in (a, b))
    return (statistics.fmean(a) - statistics.fmean(b)) / noise**0.5


def _why_gap(a, b, got):
    gap = statistics.fmean(a) - statistics.fmean(b)
    deviations = [statistics.stdev(x) for x in (a, b)]
    errors = [d / len(x) ** 0.5 for d, x in zip(deviations, (a, b), strict=True)]
    known = [
        (
            abs(_gap(a, b)) if gap < 0 else math.nan,
            "a minus got lost; the sign tells which of the two is better",
        ),
        (_gap(b, a), "the sign is the other way round; it is A minus B"),
        (
            _gap(a, b, statistics.pvariance),
            "a deviation from a few runs divides by n - 1, not by n",
        ),
        (
            _gap(a, b, divide=False),
            "that is the gap in deviations of *single runs*; the mean of n runs is steadier, its "
            "variance is smaller by n",
        ),
        (gap / sum(errors), "the two standard errors were added; it is the variances that add"),
        (gap / sum(deviations), "the two deviations were added, and the number of runs is missing"),
        (gap, "that is the gap itself, not yet divided by its noise"),
        (
            gap / sum(e**2 for e in errors),
            "the gap was divided by a variance; take the square root first",
        ),
        (
            (min(a) - min(b)) / sum(e**2 for e in errors) ** 0.5,
            "the best runs were compared; compare the means",
        ),
    ]
    return next(
        (why for value, why in known if close(got, value)),
        "divide the gap of the means by the root of the sum of variance / n",
    )


@exercise(
    "7.6",
    expects='a set of letters, like {"C", "D"}',
    right="each of the four tilts the comparison or flatters the numbers, and none shows in the "
    "printed table.",
)
def spot_the_tilt(attempt):
    """A set of letters: the lines that make the comparison unfair or the number too good."""
    letters = "ABCDEFG"
    if isinstance(attempt, str):
        attempt = attempt.replace(",", " ").split() if not attempt.isalpha() else list(attempt)
    good = isinstance(attempt, set | frozenset | list | tuple) and len(attempt) > 0
    expect(good, f"Expected the letters of the bad lines, like C and D, got {show(attempt)}.")
    named = {x.strip().upper() if isinstance(x, str) else None for x in attempt}
    expect(
        named <= set(letters),
        f"Expected letters from A to G, got {show(attempt)}.",
    )
    fair = {
        "C": "all networks start from a seed that is set just before they are built",
        "E": "the order of the batches is the same for both, and at this rate both learn",
        "D": "the depth is the same for both, and so is the number of parameters",
    }
    for letter, reason in fair.items():
        expect(letter not in named, f"Line {letter} is innocent: {reason}.", 1)
    missed = {
        "A": "the test images went into something that was computed before training",
        "B": "one network got fewer tries than the other",
        "F": "somebody looked at the test error to decide when training was over",
        "G": "one number was kept of many; which one, and what does it stand for",
    }
    for letter, reason in missed.items():
        found = len(named & set(missed))
        expect(
            letter in named,
            f"You found {found} of {len(missed)}. One you missed: {reason}.",
            2,
        )


QUIZ = [
    Question(
        "ResNet-1202 has 7.93 % test error on CIFAR-10, ResNet-110 6.43 %. Is that degradation?",
        [
            (
                "Yes: the deeper network is worse again.",
                "Worse on *test* images. The paper reports that both have similar training errors.",
            ),
            (
                "No: both fit the training images.",
                "The authors argue that it overfits: 1202 layers are a lot for 50,000 images.",
            ),
            (
                "It cannot be said without a plain-1202.",
                "It can: degradation is defined by the network's own training error.",
            ),
        ],
        right=1,
    ),
    Question(
        "A paper reports the best of five runs, you measured the mean of five. Yours is 0.2 points "
        "worse, and runs scatter by 0.16. What follows?",
        [
            (
                "Your training is worse, by more than the scatter.",
                "A best is not a mean: about how far below the mean does the best of five lie?",
            ),
            (
                "Nothing yet: chance alone gives such a gap.",
                "The best of five lies about 1.2 deviations below the mean, 0.19 points. Compare "
                "means with means.",
            ),
            (
                "Your training is better, for a mean is harder to reach.",
                "The gap is what chance gives. It speaks for neither.",
            ),
        ],
        right=1,
    ),
    Question(
        "You divide the learning rate by 10 and the training error drops at once. Why not train at "
        "the small rate from the start?",
        [
            (
                "Because the large rate covers the distance first.",
                "At the small rate the same number of updates goes about a tenth as far. It "
                "settles what the large one has reached.",
            ),
            (
                "Because at a small rate the gradients vanish on their way.",
                "The rate scales the steps; it does not change a gradient.",
            ),
            (
                "Because batch norm works only at a large rate.",
                "It allows one. It does not need one.",
            ),
        ],
        right=0,
    ),
    Question(
        "One paper plots training error as it runs: in training mode, on augmented images. Another "
        "measures it after each epoch: in evaluation mode, on the images as they are. Its network "
        "ends at 4 %, the first one's at 6 %. Which network fits the training images better?",
        [
            (
                "The second: 4 % is less than 6 %.",
                "Its images were easier, and its weights those of the *end* of the epoch.",
            ),
            (
                "The curves cannot tell.",
                "Mode, images and weights differ. Measure both networks in the same way.",
            ),
            (
                "Either way the same: at the end of training the two errors agree.",
                "With augmentation they need not: the running error is over harder images.",
            ),
        ],
        right=1,
    ),
    Question(
        "Before training, without batch norm and with He initialization: what do the shortcuts do "
        "to the signal of a deep network?",
        [
            (
                "They keep its size the same from block to block.",
                "Each block adds something to its input, and the sum is larger than either.",
            ),
            (
                "They make it larger by a factor in every block.",
                "The branch is a share of its input, so the sum grows by a factor each time. A "
                "normalized branch always adds the same amount.",
            ),
            (
                "They make it fade, by a factor in every block.",
                "That is what happens in the plain network, which has no shortcuts.",
            ),
        ],
        right=1,
    ),
]
