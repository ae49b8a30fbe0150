"""Chapter 07, degradation, solved: checks and quiz."""

import copy
import itertools
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
    differing,
    exercise,
    expect,
    fallback,
    judge,
    number,
    show,
    tensor,
)
from resnet_course.teaching.quiz import Question


@exercise(
    "7.1",
    expects="a function of network, optimizer, images and labels",
    right="after four updates, with momentum and batch norm, your weights, running statistics and "
    "losses are those of the chapter's loop.",
)
def update_step(attempt):
    """A function: (network, optimizer, images, labels) -> the loss of the batch, a number."""
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.")
    _judge_updates(attempt, 10)
    try:
        _judge_updates(attempt, random.randrange(4, 7))
    except (RuntimeError, IndexError, ValueError) as error:
        raise Mistake(
            "With ten classes the code runs, with another number it stopped "
            f"({type(error).__name__}): the number of classes is that of the raw outputs.",
        ) from error


def _judge_updates(attempt, classes):
    count = random.choice([13, 17, 19])
    settings = {"lr": random.uniform(0.2, 0.5), "momentum": random.uniform(0.7, 0.9)}
    theirs, seen = _small_network(classes), []
    new = copy.deepcopy(theirs)
    optimizer = torch.optim.SGD(theirs.parameters(), **settings)
    watch = Watch(theirs, optimizer)
    for _ in range(4):
        images, labels = torch.randn(count, 1, 4, 4) + 1, torch.randint(classes, (count,))
        watch.fresh = _gradients(theirs, images, labels)
        before, share = _loss_and_share(theirs, images, labels)
        try:
            got = attempt(theirs, optimizer, images, labels)
        except RuntimeError as error:
            expect(
                "does not require grad" not in str(error),
                "`backward()` found no way from the loss to the weights: the network was run "
                "under `no_grad`, or its outputs were detached.",
                1,
            )
            expect(
                "modified by an inplace operation" not in str(error),
                "Between the forward pass and `backward()` the weights were changed, as a `step()` "
                "before `backward()` does: the step comes last.",
                1,
            )
            raise
        after, _ = _loss_and_share(theirs, images, labels)
        seen.append((images, labels, got, before, after, share))

    def by(step):
        """The network after these batches, with another step."""
        network = copy.deepcopy(new)
        rate = torch.optim.SGD(network.parameters(), **settings)
        for images, labels, *_ in seen:
            step(network, rate, images, labels)
        return network

    _judge_weights(theirs, new, by, watch)
    losses = [(_as_number(got), *rest, count) for _, _, got, *rest in seen]
    losses.sort(key=lambda loss: not _apart_enough(*loss))
    for got, before, after, share, _ in losses:
        known = _known_losses(before, after, share, count)
        judge(got, before, "the loss (the weights are right)", known, tolerance=1e-3)


def _known_losses(before, after, share, count):
    part = "that is the share of right or wrong answers, not the loss"
    whole = "it was rounded to a whole number"
    return [
        (after, "that is the loss *after* the update, which costs a second forward pass"),
        (before * count, "that is the sum over the batch; return the mean"),
        (before / count, "`cross_entropy` is a mean already, and was divided once more"),
        (share, part),
        (1 - share, part),
        (math.floor(before), whole),
        (round(before), whole),
        (-before, "it has the wrong sign"),
    ]


def _apart_enough(_, before, after, share, count):
    """Can the known mistakes be told apart by this loss?"""
    known = dict(_known_losses(before, after, share, count))
    pairs = itertools.pairwise(sorted([*known.items(), (before, "right")]))
    return all(b - a > 5e-3 * max(1, before) or x == y for (a, x), (b, y) in pairs)


def _small_network(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))


class Watch:
    """Counts backward passes and steps, and notes what a step found in the gradients."""

    def __init__(self, network, optimizer):
        self.network, self.backward, self.step = network, 0, 0
        self.empty, self.first, self.fresh = 0, None, None
        self.parallel = []  # do they point the right way, step by step?
        self.used, self.found = None, []  # the last gradients, and what they were, step by step
        network[1].weight.register_hook(self.note_backward)
        optimizer.register_step_pre_hook(self.note_start)
        optimizer.register_step_post_hook(self.note_step)

    def note_backward(self, gradient):
        self.backward += 1
        self.first = self.first or "backward"

    def note_start(self, optimizer, arguments, words):
        """A step with a closure calls `backward()` itself."""
        if not any(callable(a) for a in (*arguments, *words.values()) if a is not optimizer):
            self.first = self.first or "step"

    def note_step(self, *_):
        self.step += 1
        old = self.used or dict.fromkeys(self.fresh, 0)
        self.used = {
            name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for name, p in self.network.named_parameters()
        }
        self.empty += not any(gradient.any() for gradient in self.used.values())
        here, right = (
            torch.cat([g.flatten() for g in x.values()]) for x in (self.used, self.fresh)
        )
        self.parallel.append(F.cosine_similarity(here, right, dim=0).item() > 1 - 1e-5)
        self.found.append(
            {
                "fresh"
                if close(gradient, self.fresh[name], 1e-5)
                else "added"
                if close(gradient, self.fresh[name] + old[name], 1e-5)
                else "other"
                for name, gradient in self.used.items()
            }
        )


def _gradients(network, images, labels):
    """Those of this batch alone, in training mode, by name."""
    network = copy.deepcopy(network).train()
    network.zero_grad()
    F.cross_entropy(network(images), labels).backward()
    return {name: p.grad for name, p in network.named_parameters()}


def _make_step(loss_of, training=True, zero=True):
    def step(network, optimizer, images, labels):
        network.train(training)
        loss = loss_of(network(images), labels)
        if zero:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _one_hot(logits, labels):
    return F.one_hot(labels, logits.shape[1]).float()


STEPS = {  # the right one, and those that are often written in its place
    "right": _make_step(F.cross_entropy),
    "adds up": _make_step(F.cross_entropy, zero=False),
    "softmax": _make_step(lambda y, t: F.cross_entropy(y.softmax(1), t)),
    "log softmax": _make_step(lambda y, t: F.nll_loss(F.log_softmax(y.softmax(1), 1), t)),
    "no logarithm": _make_step(lambda y, t: F.nll_loss(y.softmax(1), t)),
    "raw nll": _make_step(lambda y, t: F.nll_loss(y, t)),
    "sum": _make_step(lambda y, t: F.cross_entropy(y, t, reduction="sum")),
    "squares": _make_step(lambda y, t: F.mse_loss(y.softmax(1), _one_hot(y, t))),
    "raw squares": _make_step(lambda y, t: F.mse_loss(y, _one_hot(y, t))),
    "eval": _make_step(F.cross_entropy, training=False),
    "uphill": _make_step(lambda y, t: -F.cross_entropy(y, t)),
    "softmax adds up": _make_step(lambda y, t: F.cross_entropy(y.softmax(1), t), zero=False),
    "sum adds up": _make_step(lambda y, t: F.cross_entropy(y, t, reduction="sum"), zero=False),
    "first image": _make_step(lambda y, t: F.cross_entropy(y[:1], t[:1])),
    "last image": _make_step(lambda y, t: F.cross_entropy(y[-1:], t[-1:])),
    "each class": _make_step(lambda y, t: F.binary_cross_entropy_with_logits(y, _one_hot(y, t))),
}
WHY = {
    "adds up": "the gradients of earlier batches were added to the new ones; `backward()` adds, "
    "so they must be set to zero in between",
    "softmax": "`cross_entropy` takes the raw outputs and does the softmax itself; here it was "
    "done twice",
    "log softmax": "`cross_entropy` takes the raw outputs and does the softmax itself; here it "
    "was done twice",
    "no logarithm": "the loss is made of the probability of the right class, without its "
    "*logarithm* (as `nll_loss` of probabilities is); `cross_entropy` of the raw outputs does it "
    "all",
    "raw nll": "the loss is made of the right class's raw output, without a softmax (as `nll_loss` "
    "of raw outputs is); `cross_entropy` does the softmax",
    "sum": "the gradient is that of the *sum* over the batch; `cross_entropy` takes the mean "
    "unless told otherwise",
    "squares": "the loss is a squared error; the text asks for `cross_entropy`",
    "raw squares": "the loss is a squared error; the text asks for `cross_entropy`",
    "eval": "the network was in evaluation mode, so batch norm did not use this batch",
    "uphill": "they went *up* the gradient; the optimizer subtracts it already",
    "softmax adds up": "the softmax was done twice, and gradients of earlier batches were added",
    "sum adds up": "the gradient is that of the *sum* over the batch, and gradients of earlier "
    "batches were added",
    "first image": "the loss is that of one image alone, not of the batch",
    "last image": "the loss is that of one image alone, not of the batch",
    "each class": "each class was judged on its own, yes or no; the text asks for `cross_entropy`",
}


@torch.no_grad()
def _loss_and_share(network, images, labels):
    """In training mode: the loss, and the share of wrong answers."""
    logits = copy.deepcopy(network).train()(images)
    return F.cross_entropy(logits, labels).item(), (
        logits.argmax(1) != labels
    ).double().mean().item()


def _as_number(got):
    expect(got is not None, "The function returned None: does it end with `return`?")
    if isinstance(got, torch.Tensor):
        expect(
            not got.requires_grad,
            "The loss came back with the graph it was computed in: whoever adds such losses up "
            "keeps every batch in memory; `loss.item()` is the number alone.",
            2,
        )
    expect(
        not isinstance(got, str),
        "Expected a number for the loss, got a text: return `loss.item()` as it is.",
        2,
    )
    return number(got, "the loss")


def _judge_weights(theirs, new, by, watch):
    def learned(network):
        return {name: p.detach() for name, p in network.named_parameters()}

    got, wanted = learned(theirs), learned(by(STEPS["right"]))
    if differing(got, wanted, 1e-3) is None:
        counted = int(theirs[2].num_batches_tracked)
        expect(
            counted == 4,
            "The weights are right, but batch norm did not see each batch once: a second forward "
            "pass in training mode moves the running statistics.",
        )
        return
    moved = differing(got, learned(new), 1e-6) is not None
    expect(
        watch.step or not moved,
        "The weights were changed, but not by the optimizer that the function was given: its "
        "`step()` never ran, so its rate and its momentum were not used.",
    )
    expect(
        watch.backward,
        "No gradient of the loss has reached the weights: either `backward()` did not run, or "
        "something like `detach()` or `item()` cut the way between them.",
        1,
    )
    expect(watch.step, "The gradients were computed and never used: no `optimizer.step()` ran.")
    expect(
        watch.empty < watch.step or watch.first == "step",
        "The weights have not moved: the gradients were set to zero after `backward()` and "
        "before `step()`, so the step had nothing to use.",
        1,
    )
    expect(
        watch.first == "backward",
        "`optimizer.step()` came before `backward()`: it could only use older gradients.",
        1,
    )
    expect(
        watch.backward == watch.step == 4,
        f"Four batches make four updates; here `backward()` ran {watch.backward} times and "
        f"`step()` {watch.step} times.",
    )
    start = "The weights after four updates are not the right ones"
    expect(
        any(found != {"fresh"} for found in watch.found),
        f"{start}: every step had the right gradients, so something else has changed the weights "
        "or the optimizer's settings.",
    )
    words = [
        why for name, why in WHY.items() if differing(got, learned(by(STEPS[name])), 1e-3) is None
    ]
    words = list(dict.fromkeys(words))
    expect(not words or len(words) > 2, f"{start}: {', or '.join(words)}.", 2)
    _judge_clearing(watch, start)
    name = differing(got, wanted, 1e-3)
    fallback(wanted[name], got[name], f"the parameter `{name}` after four updates", 2)


def _judge_clearing(watch, start):
    """What the gradients that each step found were made of."""
    expect(
        not all(watch.parallel),
        f"{start}: the gradients point the right way, but they are longer or shorter than those of "
        "the batch's mean loss.",
        2,
    )
    expect(
        "other" not in watch.found[0],
        f"{start}: already the first gradients are not those of `cross_entropy`, of the raw "
        "outputs in training mode and the labels of all the images.",
        2,
    )
    if any("other" in found for found in watch.found):
        return
    added = ["added" in found for found in watch.found]
    again = any(a and not b for a, b in itertools.pairwise(added))
    expect(
        not again,
        f"{start}: in some of the calls the gradients of an earlier batch were added to the new "
        "ones, in others not; every call must clear them.",
        1,
    )
    expect(
        not any(added),
        f"{start}: some parameters' gradients were cleared, to others those of earlier batches "
        "were added; `optimizer.zero_grad()` clears them all.",
        1,
    )


PHASES = [(0, 399, 0.01), (400, 31_999, 0.1), (32_000, 47_999, 0.01), (48_000, 100_000, 0.001)]


@exercise(
    "7.2",
    expects="a function of the number of updates done",
    right="the rate is right at every boundary and at many places between them, up to 100,000.",
)
def paper_rate(attempt):
    """A function: number of updates done -> learning rate of the next update."""
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.")
    edges = [first + more for first, *_ in PHASES for more in (-1, 0, 1)]
    places = {*range(0, 100_001, 100), *edges, *random.sample(range(100_000), 50)} - {-1}
    rates = {n: number(call(attempt, n), "the rate") for n in sorted(places)}
    wrong = [n for n, rate in rates.items() if not _near(rate, _right_rate(n))]
    if not wrong:
        return
    factors = [rate / _right_rate(n) for n, rate in rates.items()]
    if all(_near(factor, factors[0]) for factor in factors):
        raise Mistake(_why_factor(factors[0]))
    phases = _phases(attempt, rates)
    if len(phases) <= 12:
        _judge_starts(phases)
    first, last, right = next(p for p in PHASES if p[0] <= wrong[0] <= p[1])
    where = f"From {first:,} updates done to {last:,}, the rate is {right:g}"
    reason = _why_rate(phases, rates, first, last)
    if reason:
        raise Mistake(f"{where}, and yours is another: {reason}.", 2)
    raise Mistake(f"{where}, got {rates[wrong[0]]:.4g} there.", 2, named=False)


def _right_rate(updates):
    return next(rate for first, last, rate in PHASES if updates <= last)


def _why_factor(factor):
    start = f"All rates are {factor:g} times the right ones"
    if _near(factor, 10):
        return f"{start}: those are *factors* on the base rate 0.1; multiply by it."
    if _near(factor, 100):
        return f"{start}: a rate is no percentage."
    return f"{start}; the first one is 0.01."


def _phases(attempt, rates):
    """[(first number of updates done, rate)]: where it changes, to the update."""
    places = list(rates)
    phases = [(places[0], rates[places[0]])]
    for low, high in itertools.pairwise(places):
        end, rate = high, rates[high]
        if _near(rates[low], rate):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            if _near(number(call(attempt, middle), "the rate"), rates[end]):
                high = middle
            else:
                low = middle
        phases.append((high, rate))
    return phases


def _judge_starts(phases):
    """The right rates in the right order, which begin at the wrong number of updates."""
    wanted = [(first, rate) for first, _, rate in PHASES]
    if len(phases) != 4 or not all(
        _near(a, b) for (_, a), (_, b) in zip(phases, wanted, strict=True)
    ):
        return
    starts = [(got, right, rate) for (got, _), (right, rate) in zip(phases, wanted, strict=True)]
    got, right, rate = next(s for s in starts if s[0] != s[1])
    where = f"After {right:,} updates the rate is {rate:g}"
    if all(g == r + 400 for g, r, _ in starts[2:]) and right == 32_000:
        raise Mistake(
            f"{where}: yours changes 400 updates later, as if the warm-up did not count; the "
            "32,000 updates are counted from the start, the warm-up among them.",
            1,
        )
    if got == right + 1:
        raise Mistake(
            f"{where}: the change comes too late; with {right:,} done it must be there.", 1
        )
    if got == right - 1:
        early = f"the change comes too early; {got:,} are not yet {right:,}"
        raise Mistake(f"After {got:,} updates the rate is still the one before: {early}.", 1)
    epoch = "; 391 updates are one epoch, and the text counts updates" if got % 391 == 0 else ""
    raise Mistake(f"{where}: yours changes to it with {got:,} updates done{epoch}.", 2)


def _why_rate(phases, rates, first, last):
    """The likely cause, from the rates at all places that were asked, or None."""
    inside = [[rate for n, rate in rates.items() if a <= n <= b] for a, b, _ in PHASES]
    early, plain, drop, second_drop = (rates[n] for n in (200, 16_000, 40_000, 56_000))
    rest = _near(plain, 0.1) and _near(drop, 0.01) and _near(second_drop, 0.001)
    here = [rate for n, rate in rates.items() if first <= n <= last]
    if first == 0 and rest and all(a < b * 0.999 for a, b in itertools.pairwise(here[::2])):
        return "it rises; many recipes do that, but the paper's warm-up is one constant rate"
    if len(phases) > 12:
        return "it changes again and again, and each of the four phases has one constant rate"
    three = zip(phases, phases[1:], phases[2:], strict=False)
    if any(c[0] - b[0] == 1 and _near(a[1], c[1]) for a, b, c in three):
        return "some of your rates hold for a single update; each must hold up to the next boundary"
    if _near(early, 0.01) and not any(_near(rate, 0.1) for _, rate in phases):
        return "after 400 updates it must rise to 0.1, and that is none of your rates"
    if all(_near(rate, 0.1) for rate in inside[0]) and _near(plain, 0.01):
        return "the warm-up is the *lower* rate, 0.01, and 0.1 comes after it"
    if all(_near(rate, 0.1) for rate in inside[0]):
        return "it is 0.1 from the start, so the warm-up is missing"
    if _near(early, 0.001) and rest:
        return "the warm-up is a tenth of the rate, not a hundredth"
    if first == 48_000 and _near(second_drop, 0.001) and _near(drop, 0.01):
        return "the last phase has no end in the text, and yours changes once more"
    if first == 48_000 and _near(second_drop, 0.01) and _near(drop, 0.01):
        return "the second division by 10 is missing"
    inner = next((n for n, _ in phases if first < n <= last), None)
    if inner is not None and (first < 48_000 or inner > 48_001):
        return f"inside this phase yours changes, with {inner:,} updates done"
    if not _near(early, 0.01) or not _near(plain, 0.1):
        return None
    if _near(drop, 0.1) and _near(second_drop, 0.1):
        return "both divisions by 10 are missing"
    if _near(drop, 0.1):
        return "the first division by 10 is missing"
    if _near(drop, 0.001):
        return "at the first drop it is divided by 10, not by 100"
    if not _near(drop, 0.01):
        return None
    if _near(second_drop, drop):
        return "the second division by 10 is missing"
    if _near(second_drop, 0.0001):
        return "the two drops make 1/100 in all; more was divided"
    return None


def _near(value, wanted):
    return abs(value - wanted) <= 1e-3 * abs(wanted)


@exercise(
    "7.3",
    expects="a function of weight, gradient, velocity, lr, momentum and weight_decay",
    right="in six updates, with a drop of the rate in the middle, and in one with an older "
    "velocity, weight and velocity are those of `torch.optim.SGD`.",
)
def momentum_update(attempt):
    """(weight, gradient, velocity, lr, momentum, weight_decay) -> (weight, velocity), new ones."""
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.")
    shape = random.sample(range(2, 6), random.randrange(1, 4))
    start, target, older = (torch.randn(shape, dtype=torch.double) for _ in range(3))
    momentum, decay = random.uniform(0.5, 0.8), random.uniform(0.2, 0.5)
    high = random.uniform(0.2, 0.4)
    rates = [high] * 3 + [high * random.uniform(0.2, 0.4)] * 3

    def run(update, asked=lambda result: result):
        weight, velocity, path = start.clone(), torch.zeros_like(start), []
        for rate in rates:
            result = call(update, weight, weight - target, velocity, rate, momentum, decay)
            weight, velocity = asked(result)
            path += [weight, velocity]
        # one update with an older velocity: the old one and none at all are not the same
        result = call(update, start.clone(), target.clone(), older.clone(), high, momentum, decay)
        return torch.stack([*path, *asked(result)])

    def pair(result):
        expect(
            isinstance(result, tuple | list) and len(result) == 2,
            "Expected two tensors, the new weight and the new velocity, and something else came.",
        )
        return (
            tensor(result[0], shape, "the new weight"),
            tensor(result[1], shape, "the new velocity"),
        )

    got, wanted = run(attempt, pair), run(UPDATES["right"])
    if close(got, wanted):
        return
    words = [WHY_UPDATE[name] for name in WHY_UPDATE if close(got, run(UPDATES[name]), 1e-6)]
    words = list(dict.fromkeys(words))
    if 0 < len(words) < 3:
        raise Mistake(f"Not what `torch.optim.SGD` does: {' or '.join(words)}.", 2)
    if close(got[::2], wanted[::2]):
        raise Mistake("The weights are right, the velocities that come back are not.", 2)
    i = next(i for i in range(14) if not close(got[i], wanted[i]))
    what = f"the new {('weight', 'velocity')[i % 2]} in update {i // 2 + 1} of 7"
    fallback(wanted[i], got[i], what, 2)


def _velocity(w, g, v, m, d):
    return m * v + g + d * w


def _with(velocity, step=None):
    """An update of this velocity; `step` is what the rate multiplies, if not the velocity."""

    def update(w, g, v, r, m, d):
        new = velocity(w, g, v, r, m, d)
        return w - r * (new if step is None else step(w, g, v, new, m, d)), new

    return update


UPDATES = {
    "right": _with(lambda w, g, v, r, m, d: m * v + g + d * w),
    "rate inside": lambda w, g, v, r, m, d: (
        w - (m * v + r * (g + d * w)),
        m * v + r * (g + d * w),
    ),
    "average": _with(lambda w, g, v, r, m, d: m * v + (1 - m) * (g + d * w)),
    "damped": _with(lambda w, g, v, r, m, d: m * v + (1 - m) * g + d * w),
    "no decay": _with(lambda w, g, v, r, m, d: m * v + g),
    "decay after": _with(
        lambda w, g, v, r, m, d: m * v + g, lambda w, g, v, new, m, d: new + d * w
    ),
    "decay without rate": lambda w, g, v, r, m, d: (w - r * (m * v + g) - d * w, m * v + g),
    "decay sign": _with(lambda w, g, v, r, m, d: m * v + g - d * w),
    "decay twice": _with(lambda w, g, v, r, m, d: m * v + g + 2 * d * w),
    "decay half": _with(lambda w, g, v, r, m, d: m * v + g + d / 2 * w),
    "decay times rate": _with(lambda w, g, v, r, m, d: m * v + g + r * d * w),
    "decay alone": _with(lambda w, g, v, r, m, d: m * v + g + d),
    "decay of the gradient": _with(lambda w, g, v, r, m, d: m * v + g + d * g),
    "decay squared": _with(lambda w, g, v, r, m, d: m * v + g + d * w**2),
    "decay in momentum": _with(lambda w, g, v, r, m, d: m * (v + g + d * w)),
    "momentum of the gradient": _with(lambda w, g, v, r, m, d: v + m * (g + d * w)),
    "momentum fixed": _with(lambda w, g, v, r, m, d: 0.9 * v + g + d * w),
    "nesterov": _with(
        lambda w, g, v, r, m, d: m * v + g + d * w,
        lambda w, g, v, new, m, d: g + d * w + m * new,
    ),
    "old velocity": _with(lambda w, g, v, r, m, d: m * v + g + d * w, lambda w, g, v, new, m, d: v),
    "no momentum": _with(lambda w, g, v, r, m, d: g + d * w),
    "velocity kept": lambda w, g, v, r, m, d: (w - r * (g + d * w), v),
    "fades nothing": _with(lambda w, g, v, r, m, d: v + g + d * w),
    "uphill": lambda w, g, v, r, m, d: (
        w + r * _velocity(w, g, v, m, d),
        _velocity(w, g, v, m, d),
    ),
    "no rate": lambda w, g, v, r, m, d: (w - _velocity(w, g, v, m, d), _velocity(w, g, v, m, d)),
    "swapped": lambda w, g, v, r, m, d: (
        _velocity(w, g, v, m, d),
        w - r * _velocity(w, g, v, m, d),
    ),
    "returns old velocity": lambda w, g, v, r, m, d: (w - r * _velocity(w, g, v, m, d), v),
    "rate inside, minus": lambda w, g, v, r, m, d: (
        w + m * v - r * (g + d * w),
        m * v - r * (g + d * w),
    ),
    "minus": lambda w, g, v, r, m, d: (
        w + r * (m * v - g - d * w),
        m * v - g - d * w,
    ),
    "decay norm": _with(lambda w, g, v, r, m, d: m * v + g + d * w.norm()),
    "decay value": _with(lambda w, g, v, r, m, d: m * v + g + d / 2 * w.square().sum()),
    "decay sign of w": _with(lambda w, g, v, r, m, d: m * v + g + d * w.sign()),
    "decay of the velocity": _with(lambda w, g, v, r, m, d: m * v + g + d * v),
    "decay of the new weight": lambda w, g, v, r, m, d: (
        (w - r * (m * v + g)) * (1 - d),
        m * v + g,
    ),
    "decay of the new weight, rated": lambda w, g, v, r, m, d: (
        (w - r * (m * v + g)) * (1 - r * d),
        m * v + g,
    ),
    "gradient in the step": _with(
        lambda w, g, v, r, m, d: m * v + g + d * w,
        lambda w, g, v, new, m, d: g + d * w,
    ),
    "bare gradient in the step": _with(
        lambda w, g, v, r, m, d: m * v + g + d * w,
        lambda w, g, v, new, m, d: g,
    ),
    "normalized": _with(
        lambda w, g, v, r, m, d: m * v + g + d * w,
        lambda w, g, v, new, m, d: new / new.norm(),
    ),
    "returns the step": lambda w, g, v, r, m, d: (
        w - r * _velocity(w, g, v, m, d),
        r * _velocity(w, g, v, m, d),
    ),
    "returns the step, minus": lambda w, g, v, r, m, d: (
        w - r * _velocity(w, g, v, m, d),
        -r * _velocity(w, g, v, m, d),
    ),
    "fades by the rest": _with(lambda w, g, v, r, m, d: (1 - m) * v + g + d * w),
    "average turned": _with(lambda w, g, v, r, m, d: (1 - m) * v + m * (g + d * w)),
    **{
        f"rate {rate}": lambda w, g, v, r, m, d, rate=rate: (
            w - rate * _velocity(w, g, v, m, d),
            _velocity(w, g, v, m, d),
        )
        for rate in (0.1, 0.02, 0.01, 0.001)
    },
    **{
        f"decay {decay}": _with(lambda w, g, v, r, m, d, decay=decay: m * v + g + decay * w)
        for decay in (1e-4, 5e-4, 1e-3, 0.01, 1)
    },
    **{
        f"momentum 0.9, decay {decay}": _with(
            lambda w, g, v, r, m, d, decay=decay: 0.9 * v + g + decay * w
        )
        for decay in (1e-4, 5e-4)
    },
}
WHY_UPDATE = {
    "rate inside": "up to the drop the weights are right; with the rate inside the velocity, as "
    "some libraries have it, the old rate lives on after a drop",
    "average": "the new gradient was scaled by 1 - momentum; PyTorch adds it whole (`dampening` "
    "is 0)",
    "damped": "the new gradient was scaled by 1 - momentum; PyTorch adds it whole (`dampening` "
    "is 0)",
    "no decay": "the weight decay is missing; it adds weight_decay · weight to the gradient",
    "decay after": "the weight decay must go into the gradient, and so into the velocity; beside "
    "the velocity is the way of AdamW",
    "decay without rate": "the weight decay must go into the gradient, and so into the velocity",
    "decay sign": "weight decay is *added* to the gradient, so that the step shrinks the weight",
    "decay twice": "the weight decay is twice too large; the gradient of λ/2 · w² is λ · w",
    "decay half": "the weight decay is half as large as it should be; the gradient of λ/2 · w² is "
    "λ · w",
    "decay times rate": "the rate multiplies the weight decay twice; λ · w joins the gradient as "
    "it is, and the rate comes later",
    "decay alone": "the weight decay is λ · w, and λ alone was added",
    "decay of the gradient": "weight decay is λ times the *weight*, not the gradient",
    "decay squared": "that is λ · w², but the *gradient* of λ/2 · w² is λ · w",
    "decay in momentum": "momentum fades the old velocity alone, not the new gradient",
    "momentum of the gradient": "`momentum` multiplies the old velocity, not the new gradient",
    "momentum fixed": "the momentum is the argument, not always 0.9",
    "nesterov": "that is the Nesterov form, which PyTorch does only if asked",
    "old velocity": "the step must use the *new* velocity",
    "no momentum": "the velocity was never used: momentum · velocity is what is kept of it",
    "velocity kept": "the velocity was never used: momentum · velocity is what is kept of it",
    "fades nothing": "the old velocity does not fade: it is multiplied by `momentum` first",
    "uphill": "the step goes up the gradient; it must be subtracted",
    "no rate": "the rate is missing: the step is lr · velocity",
    "swapped": "the two results are swapped: first the weight, then the velocity",
    "returns old velocity": "the velocity that comes back is the old one; the next update needs "
    "the new",
    "rate inside, minus": "up to the drop the weights are right; with the rate and a minus "
    "inside the velocity, the old rate lives on after a drop",
    "minus": "the weights are right, the velocity has the other sign: PyTorch's adds the gradients "
    "up, and the *step* subtracts it",
    "decay norm": "λ · w is added number by number, not one number, the norm, to all",
    "decay value": "the *value* of the penalty, λ/2 · w², was added; its gradient is λ · w",
    "decay sign of w": "that is the gradient of λ · |w|; the one of λ/2 · w² is λ · w",
    "decay of the velocity": "weight decay is λ times the *weight*, not the velocity",
    "decay of the new weight": "the weight decay must go into the gradient, and so into the "
    "velocity; here the weight was shrunk after its step",
    "decay of the new weight, rated": "the weight decay must go into the gradient, and so into the "
    "velocity; here the weight was shrunk after its step",
    "gradient in the step": "the velocity is right, but the step was made with the gradient; it is "
    "lr · velocity",
    "bare gradient in the step": "the velocity is right, but the step was made with the gradient; "
    "it is lr · velocity",
    "normalized": "the step is lr · velocity as long as it is; here it was divided by its norm",
    "returns the step": "the velocity that comes back was multiplied by the rate; it is "
    "kept without it",
    "returns the step, minus": "the velocity that comes back was multiplied by the rate; it is "
    "kept without it",
    "fades by the rest": "the old velocity is multiplied by `momentum`, not by 1 - `momentum`",
    "average turned": "`momentum` and 1 - `momentum` stand where `momentum` and 1 belong",
    **{
        f"rate {rate}": "the rate is the argument, not always the same number"
        for rate in (0.1, 0.02, 0.01, 0.001)
    },
    **{
        f"decay {decay}": "the weight decay is the argument, not always the same number"
        for decay in (1e-4, 5e-4, 1e-3, 0.01, 1)
    },
    **{
        f"momentum 0.9, decay {decay}": "momentum and weight decay are arguments, not always the "
        "same numbers"
        for decay in (1e-4, 5e-4)
    },
}


@exercise(
    "7.4",
    expects="a number, the ratio you predict",
    right="variances add.",
    times=1,
)
def predict_branch(attempt, ratio_56, ratio_110):
    """std(F) / std(x) in the last block of residual-110 before training, from residual-56's."""
    guess = number(attempt, "the ratio", unit="fraction")
    expect(guess > 0, f"A ratio of two deviations is positive, got {guess:g}.")
    if guess < 2 and max(guess / ratio_110, ratio_110 / guess) < 1.2:
        return (
            f"residual-56 measures {ratio_56:.2f}, residual-110 {ratio_110:.2f}, you predicted "
            f"{guess:.2g}: variances add, so std(x) grows like the root of the number of blocks."
        )
    known = [
        (ratio_56, "with the same ratio, x would not have grown over the added blocks"),
        (
            ratio_56 / 2,
            "that is half, as if the *deviation* of x grew by the same amount in each block, and "
            "it is another number that adds up",
        ),
        (
            ratio_56**2,
            "that is the square, as if each block *multiplied*; with batch norm, blocks add",
        ),
        (ratio_56 * 2**0.5, "x grows with depth, so F becomes smaller beside it, not larger"),
        (ratio_56 * 2, "twice as many blocks make x larger, and F stays as it is"),
        (27**-0.5, "that is 1/√27, as if x were made of 27 branches alone, all as large as F"),
        (54**-0.5, "that is 1/√54, as if x were made of 54 branches alone, all as large as F"),
        (1 / 54, "that is one of 54 parts, as if deviations added up, and all branches were alike"),
        (1 / 27, "that is one of 27 parts, as if deviations added up, and all branches were alike"),
        (1, "then F would be as large as x, but x carries what all the blocks before have added"),
        (2**-0.5, "that is the *factor*; multiply residual-56's ratio by it"),
        (2**0.5, "that is by how much x grows; divide residual-56's ratio by it"),
        (2**0.5 / ratio_56, "that is shortcut by branch; the ratio is branch by shortcut"),
        (100 * ratio_56, "that is residual-56's ratio, in per cent"),
        (ratio_56 / 4, "that is a quarter; twice as many blocks do not make x four times as large"),
        (
            ratio_56 * 56**0.5 / 110**0.5,
            "the number of blocks doubles, from 27 to 54",
        ),
    ]
    if abs(math.log(guess / (100 * ratio_110))) < 0.2:
        raise Mistake(f"{guess:.2g} is not the ratio: that is in per cent; give the ratio itself.")
    words = [why for value, why in known if abs(math.log(guess / value)) < 0.07]
    if 0 < len(words) < 3:
        raise Mistake(f"{guess:.2g} is not what residual-110 measures: {', or '.join(words)}.", 1)
    if guess > ratio_56:
        why = "more than residual-56's ratio, but x grows with depth and F does not"
    elif guess > ratio_110:
        why = "less than residual-56's ratio, as it must be, but not by enough: the variance of x "
        why += "grows in proportion to the number of blocks"
    else:
        why = "too small: it is the *variance* of x that grows in proportion to the number of "
        why += "blocks, and residual-56's ratio is where to begin"
    raise Mistake(f"{guess:.2g} is not what residual-110 measures: {why}.", 2)


@exercise(
    "7.5",
    expects="a function of two lists of errors",
    right="your number is right on random lists of different lengths. As a rule of thumb, below "
    "2 a gap may well be chance; with very few seeds ask for more than 2.",
)
def gap_in_noise(attempt):
    """A function: (errors of A, errors of B) -> (mean A - mean B) in standard errors."""
    for more, few in ((3, False), (-3, False), (1, True)):  # A is worse, better, either
        for _ in range(300):  # until no two known mistakes happen to meet
            few_runs, many = random.sample([4, 6, 7, 8, 9], 2)
            few_runs = 2 if few else few_runs
            a = [random.uniform(4, 8) + more for _ in range(few_runs)]
            b = [random.uniform(5.5, 6.5) for _ in range(many)]
            values = sorted(v for v, *_ in [(_gap(a, b),), *_known_gaps(a, b)] if v is not None)
            space = 2.5e-4 * max(1, abs(_gap(a, b)))
            if all(high - low > space for low, high in itertools.pairwise(values)):
                break
        what = f"the gap where A is {'worse' if more > 0 else 'better'}"
        if few:
            what = "the gap with two runs of A"
        got = number(call(attempt, a, b), what)
        judge(got, _gap(a, b), what, _known_gaps(a, b), 2)


def _gap(a, b, variance=statistics.variance, divide=True):
    noise = sum(variance(x) / (len(x) if divide else 1) for x in (a, b))
    return (statistics.fmean(a) - statistics.fmean(b)) / noise**0.5


def _known_gaps(a, b):
    mean_a, mean_b = statistics.fmean(a), statistics.fmean(b)
    gap, n, m = mean_a - mean_b, len(a), len(b)
    s, t = statistics.stdev(a), statistics.stdev(b)
    noise = s**2 / n + t**2 / m
    pooled = ((n - 1) * s**2 + (m - 1) * t**2) / (n + m - 2)
    return [
        (abs(_gap(a, b)) if gap < 0 else None, "a minus got lost; the sign tells which is better"),
        (_gap(b, a) if gap > 0 else None, "the sign is the other way round; it is A minus B"),
        (
            _gap(a, b, statistics.pvariance),
            "a deviation from a few runs divides by n - 1, not by n",
        ),
        (
            _gap(a, b, divide=False),
            "that is the gap in deviations of *single runs*; the mean of n runs is steadier, its "
            "variance is smaller by n",
        ),
        (
            gap / (s / n**0.5 + t / m**0.5),
            "the two standard errors were added; it is the variances that add",
        ),
        (gap / (s + t), "the two deviations were added, and the number of runs is missing"),
        (gap / ((s + t) / 2), "the mean of the two deviations is not the noise of the gap"),
        (gap, "that is the gap itself, not yet divided by its noise"),
        (noise**0.5 / gap, "the fraction is upside down: the gap is divided by its noise"),
        (
            gap / (s**2 / n + t**2 / n) ** 0.5,
            "B's variance was divided by A's number of runs; each has its own",
        ),
        (gap / noise, "the square root of the sum is missing; it was divided by a variance"),
        ((min(a) - min(b)) / noise**0.5, "the best runs were compared; compare the means"),
        (
            (statistics.median(a) - statistics.median(b)) / noise**0.5,
            "the medians were compared; compare the means",
        ),
        (
            gap / (s / n + t / m) ** 0.5,
            "deviations stand under the root where *variances* belong; s is to be squared",
        ),
        (
            gap / (pooled * (1 / n + 1 / m)) ** 0.5,
            "the two variances were pooled into one, which assumes that they are equal; here each "
            "keeps its own",
        ),
        (
            gap / ((s**2 + t**2) / (n + m)) ** 0.5,
            "each variance is divided by its *own* number of runs, before they are added",
        ),
        (mean_a - mean_b / noise**0.5, "brackets are missing: only B's mean was divided"),
        (
            gap / (s**2 / n) ** 0.5 + t**2 / m,
            "brackets are missing: the sum must be inside the root, and below the line",
        ),
        (
            gap / ((s**2 / n) ** 0.5 + t**2 / m),
            "brackets are missing: the root must hold the whole sum",
        ),
        (gap / abs(s**2 / n - t**2 / m) ** 0.5, "one variance was subtracted; they add"),
        (
            gap / (statistics.variance([*a, *b]) / (n + m)) ** 0.5,
            "all runs were put into one heap, so that the gap itself counts as noise",
        ),
        (gap / (s**2 / n) ** 0.5, "the noise of B is missing"),
        (gap / (t**2 / m) ** 0.5, "the noise of A is missing"),
        (
            gap / (s**2 / (n - 1) + t**2 / (m - 1)) ** 0.5,
            "the variance divides by n - 1 already, and after that it is divided by n",
        ),
        (
            gap / (s**2 / n**2 + t**2 / m**2) ** 0.5,
            "each variance is divided by its number of runs, not by the square of it",
        ),
        (mean_a / mean_b / noise**0.5, "the means were divided; subtract them"),
        (gap * noise**0.5, "the gap was multiplied by its noise; divide it"),
        (
            (sum(a) - sum(b)) / noise**0.5,
            "the sums were compared, which grow with the number of runs; compare the means",
        ),
        (
            gap / (s**2 / m + t**2 / n) ** 0.5,
            "each variance was divided by the *other* one's number of runs",
        ),
        *(
            (gap / ((s**2 + t**2) / k) ** 0.5, "the numbers of runs are those of the two lists")
            for k in (3, 5)
        ),
        (_paired(a, b), "runs were compared in pairs, but nothing pairs a run of A with one of B"),
        (
            gap / ((s + t) / 2 * (1 / n + 1 / m) ** 0.5),
            "the mean of the two deviations took their place; each variance has its own part",
        ),
        (100 * _gap(a, b), "that is a hundred times too much; it is no percentage"),
        ((max(a) - max(b)) / noise**0.5, "the worst runs were compared; compare the means"),
        (_gap(a, b) ** 2 if gap > 0 else None, "that is its square"),
        *((round(_gap(a, b), digits), "it was rounded; leave the digits") for digits in (0, 1, 2)),
    ]


def _paired(a, b):
    differences = [x - y for x, y in zip(a, b, strict=False)]
    return statistics.fmean(differences) / (statistics.stdev(differences) / len(differences) ** 0.5)


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
    came = show(attempt) if attempt else "none"
    expect(good, f"Expected the letters of the bad lines, like C and D, got {came}.")
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
        "ResNet-1202 has 7.93 % test error on CIFAR-10, ResNet-110 6.43 %. What would have to be "
        "true as well, to call that degradation?",
        [
            (
                "Nothing more: the deeper network is worse.",
                "Worse on *test* images. The paper reports that both have similar training errors, "
                "and argues that the deeper one overfits.",
            ),
            (
                "A plain-1202 would have to be worse still.",
                "Degradation compares a network with a shallower one of its own kind.",
            ),
            (
                "Its training error would have to be higher too.",
                "It is not: both fit the training images, below 0.1 % error. The authors argue "
                "that it overfits: 1202 layers are a lot for 50,000 images.",
            ),
        ],
        right=2,
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
        "You divide the learning rate by 10 and the error drops at once. This chapter also gave "
        "residual-8 a tenth of the rate from the start, for as many updates. What did it measure?",
        [
            (
                "Its weights came less far from their start.",
                "A third as far or so, with one seed. Whether that is good was not asked: in "
                "other networks a small first rate fitted faster at first, and the large one "
                "generalized better once it was divided (arXiv 1907.04595).",
            ),
            (
                "Its gradients vanished on their way.",
                "Nobody looked at its gradients. The rate scales the steps, and no gradient.",
            ),
            (
                "It fitted the training images worse.",
                "The errors of the two were not compared, only the distances of their weights from "
                "the first ones.",
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
                "That cannot be read off the two curves.",
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
        "Two networks make no mistake on the training images. One has a training loss of 0.002, "
        "the other of 0.010. What does that say?",
        [
            (
                "The first has understood the images better, since it is surer of every answer.",
                "Multiply the second one's logits by 2: no answer changes, and its loss falls.",
            ),
            (
                "Mostly how large their logits are.",
                "Compare them at equal size: on the digits, only the step from 8 to 20 layers was "
                "left.",
            ),
            (
                "The second has not been trained to the end; its error would have fallen further.",
                "Its error is 0 already. A loss can go on falling without any change of an answer.",
            ),
        ],
        right=1,
    ),
]
