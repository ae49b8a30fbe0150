"""Answers to the exercises of chapter 07."""

import statistics

import numpy
import torch
from bank import Bank
from torch import nn
from torch.nn import functional as F

from resnet_course import train
from resnet_course.exercises.ch07 import UPDATES, _gap, _paired

# 7.1


def right_step(network, optimizer, images, labels):
    network.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(network(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def right_step_in_another_order(network, optimizer, images, labels):
    loss = nn.CrossEntropyLoss()(network(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    return loss.detach()


def right_step_with_log_softmax(network, optimizer, images, labels):
    for parameter in network.parameters():
        parameter.grad = None
    loss = F.nll_loss(network(images).log_softmax(1), labels)
    loss.backward()
    optimizer.step()
    return float(loss)


def step_of(
    loss_of=F.cross_entropy,
    before=(),
    order=("zero", "backward", "step"),
    value=lambda loss, **_: loss.item(),
):
    """A step with its parts in this order."""

    def step(network, optimizer, images, labels):
        for prepare in before:
            prepare(network)
        loss = loss_of(network(images), labels)
        parts = {"zero": optimizer.zero_grad, "backward": loss.backward, "step": optimizer.step}
        for part in order:
            parts[part]()
        return value(loss, network=network, images=images, labels=labels)

    return step


def late_loss(loss, network, images, labels):
    with torch.no_grad():
        return F.cross_entropy(network.eval().train()(images), labels).item()


def twice(network, optimizer, images, labels):
    right_step(network, optimizer, images, labels)
    return right_step(network, optimizer, images, labels)


def against_one_hot(logits, labels):
    return F.mse_loss(logits, F.one_hot(labels, logits.shape[1]).float())


def detached(network, optimizer, images, labels):
    loss = F.cross_entropy(network(images).detach(), labels).requires_grad_()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def with_its_own_optimizer(network, optimizer, images, labels):
    return right_step(network, torch.optim.SGD(network.parameters(), 0.02, 0.9), images, labels)


def with_another_rate(network, optimizer, images, labels):
    optimizer.param_groups[0]["lr"] = 0.02
    return right_step(network, optimizer, images, labels)


def by_hand(network, optimizer, images, labels):
    loss = F.cross_entropy(network(images), labels)
    network.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= 0.02 * parameter.grad
    return loss.item()


def cleared_every_other_time(network, optimizer, images, labels):
    cleared_every_other_time.calls += 1
    if cleared_every_other_time.calls % 2:
        optimizer.zero_grad()
    return step_of(order=("backward", "step"))(network, optimizer, images, labels)


cleared_every_other_time.calls = 0


def cleared_for_one(network, optimizer, images, labels):
    next(network.parameters()).grad = None
    return step_of(order=("backward", "step"))(network, optimizer, images, labels)


def one_hot_of_ten(network, optimizer, images, labels):
    wanted = F.one_hot(labels, 10)

    def loss_of(logits, labels):
        return -(logits.log_softmax(1) * wanted).sum(1).mean()

    return step_of(loss_of)(network, optimizer, images, labels)


def wrong_share(network, optimizer, images, labels):
    logits = network(images)
    optimizer.zero_grad()
    F.cross_entropy(logits, labels).backward()
    optimizer.step()
    return (logits.argmax(1) != labels).float().mean().item()


def by_closure(network, optimizer, images, labels):
    """The form that optimizers like LBFGS need; SGD takes it too."""

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        return loss

    return optimizer.step(closure).item()


def second_pass(loss, network, images, labels):
    network(images)
    return loss.item()


def hinge(logits, labels):
    return F.multi_margin_loss(logits, labels)


# 7.2


def right_rate(updates):
    if updates < 400:
        return 0.01
    return 0.1 if updates < 32_000 else 0.01 if updates < 48_000 else 0.001


def both_drops_missing(updates):
    return 0.01 if updates < 400 else 0.1


def hundredth(updates):
    return 0.001 if updates >= 32_000 else right_rate(updates)


def rate_by_products(updates):
    rate = numpy.float64(0.1)
    rate *= 0.1 if updates < 400 else 1
    return rate * 0.1 ** ((updates >= 32_000) + (updates >= 48_000))


def without_warm_up(updates):
    return right_rate(max(updates, 400))


def late(updates):
    return right_rate(max(updates - 1, 0))


def early(updates):
    return right_rate(updates + 1)


def counted_after_warm_up(updates):
    return 0.01 if updates < 400 else right_rate(max(updates - 400, 400))


def ramp(updates):
    return 0.01 + 0.09 * updates / 400 if updates < 400 else right_rate(updates)


def by_epochs(updates):
    return 0.01 if updates < 400 and updates < 82 else 0.01 if updates < 82_000 else 0.001


def one_drop(updates):
    return right_rate(min(updates, 40_000))


def no_first_drop(updates):
    return 0.1 if 400 <= updates < 48_000 else right_rate(updates)


# 7.3


def in_place(weight, gradient, velocity, lr, momentum, weight_decay):
    velocity.mul_(momentum).add_(gradient + weight_decay * weight)
    return weight.sub_(lr * velocity), velocity


def by_torch(weight, gradient, velocity, lr, momentum, weight_decay):
    parameter = nn.Parameter(weight.clone())
    parameter.grad = gradient.clone()
    optimizer = torch.optim.SGD([parameter], lr, momentum, weight_decay=weight_decay)
    optimizer.state[parameter]["momentum_buffer"] = velocity.clone()
    optimizer.step()
    return parameter, optimizer.state[parameter]["momentum_buffer"]


# 7.5


def right_gap(a, b):
    a, b = numpy.array(a), numpy.array(b)
    noise = a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)
    return (a.mean() - b.mean()) / numpy.sqrt(noise)


def gap_by_torch(a, b):
    a, b = torch.tensor(a, dtype=torch.double), torch.tensor(b, dtype=torch.double)
    return (a.mean() - b.mean()) / (a.var() / len(a) + b.var() / len(b)).sqrt()


def right_gap_with_scipy_words(a, b):
    noise = sum(statistics.stdev(x) ** 2 / len(x) for x in (a, b))
    return gap(a, b) / noise**0.5


def pooled(a, b):
    n, m = len(a), len(b)
    together = (n - 1) * statistics.variance(a) + (m - 1) * statistics.variance(b)
    return gap(a, b) / (together / (n + m - 2) * (1 / n + 1 / m)) ** 0.5


def of_deviations(a, b):
    return gap(a, b) / sum(statistics.stdev(x) / len(x) for x in (a, b)) ** 0.5


def no_brackets(a, b):
    noise = sum(statistics.variance(x) / len(x) for x in (a, b)) ** 0.5
    return statistics.fmean(a) - statistics.fmean(b) / noise


def root_of_one(a, b):
    first, second = (statistics.variance(x) / len(x) for x in (a, b))
    return gap(a, b) / (first**0.5 + second)


def all_runs(a, b):
    total = statistics.variance(a) + statistics.variance(b)
    return gap(a, b) / (total / (len(a) + len(b))) ** 0.5


def runs_of_a(a, b):
    total = statistics.variance(a) + statistics.variance(b)
    return gap(a, b) / (total / len(a)) ** 0.5


def medians(a, b):
    noise = sum(statistics.variance(x) / len(x) for x in (a, b)) ** 0.5
    return (statistics.median(a) - statistics.median(b)) / noise


def heap(a, b):
    return gap(a, b) / (statistics.variance([*a, *b]) / (len(a) + len(b))) ** 0.5


def minus_one_twice(a, b):
    return gap(a, b) / sum(statistics.variance(x) / (len(x) - 1) for x in (a, b)) ** 0.5


def other_runs(a, b):
    first, second = statistics.variance(a) / len(b), statistics.variance(b) / len(a)
    return gap(a, b) / (first + second) ** 0.5


def gap(a, b):
    return statistics.fmean(a) - statistics.fmean(b)


def errors(a, b):
    return [statistics.stdev(x) / len(x) ** 0.5 for x in (a, b)]


def step_before_backward(network, optimizer, images, labels):
    loss = F.cross_entropy(network(images), labels)
    optimizer.step()
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


BANKS = {
    "update_step": Bank(
        right=[
            right_step,
            right_step_in_another_order,
            right_step_with_log_softmax,
            step_of(),
            by_closure,
            step_of(value=lambda loss, **_: numpy.float32(loss.item())),
        ],
        wrong=[
            (step_of(order=("backward", "step")), "adds, so they must be set to zero"),
            (step_of(order=("backward", "zero", "step")), "nothing to use"),
            (step_of(order=("zero", "step", "backward")), "only use older gradients"),
            (step_of(order=("zero", "backward")), "no `optimizer.step()` ran"),
            (step_of(order=("zero", "step")), "has reached the weights"),
            (detached, "has reached the weights"),
            (step_of(loss_of=lambda y, t: F.cross_entropy(y.detach(), t)), "found no way from"),
            (with_its_own_optimizer, "not by the optimizer that the function was given"),
            (by_hand, "not by the optimizer that the function was given"),
            (cleared_every_other_time, "in others not; every call"),
            (cleared_for_one, "clears them all"),
            (one_hot_of_ten, "With ten classes the code runs"),
            (step_of(lambda y, t: F.cross_entropy(y.softmax(1), t)), "done twice."),
            (step_of(lambda y, t: F.nll_loss(y.softmax(1), t)), "without its *logarithm*"),
            (
                step_of(lambda y, t: 1 - y.softmax(1)[range(len(t)), t].mean()),
                "without its *logarithm*",
            ),
            (step_of(F.nll_loss), "raw output, without a softmax"),
            (step_of(lambda y, t: F.cross_entropy(y[:1], t[:1])), "one image alone"),
            (step_of(lambda y, t: F.cross_entropy(y, t) / len(t)), "longer or shorter"),
            (step_of(lambda y, t: F.cross_entropy(y, t, reduction="sum")), "that of the *sum*"),
            (step_of(before=[nn.Module.eval]), "in evaluation mode"),
            (step_of(lambda y, t: -F.cross_entropy(y, t)), "*up* the gradient"),
            (step_of(against_one_hot), "a squared error"),
            (step_of(hinge), "the first gradients are not those of"),
            (step_of(lambda y, t: F.cross_entropy(y, t) ** 2), "longer or shorter"),
            (with_another_rate, "every step had the right gradients"),
            (
                step_of(lambda y, t: F.cross_entropy(y.softmax(1), t), order=("backward", "step")),
                "done twice, and",
            ),
            (step_of(value=lambda loss, **_: loss), "keeps every batch in memory"),
            (step_of(value=lambda loss, **_: None), "returned None"),
            (step_of(value=late_loss), "did not see each batch once"),
            (step_of(value=second_pass), "did not see each batch once"),
            (step_of(value=lambda loss, labels, **_: loss.item() * len(labels)), "return the mean"),
            (
                step_of(value=lambda loss, labels, **_: loss.item() / len(labels)),
                "divided once more",
            ),
            (wrong_share, "the share of right or wrong answers"),
            (step_of(value=lambda loss, **_: int(loss)), "rounded to a whole number"),
            (step_of(value=lambda loss, **_: f"{loss.item():.3f}"), "got a text"),
            (step_of(value=lambda loss, **_: loss.item() + 7), "the weights are right), got"),
            (twice, "`backward()` ran 8 times"),
            (step_before_backward, "the step comes last"),
        ],
    ),
    "paper_rate": Bank(
        right=[
            right_rate,
            rate_by_products,
            lambda n: 0.1 * train.warmup(400, train.paper_schedule)(n),
            lambda n: torch.tensor(right_rate(n), dtype=torch.double),
        ],
        wrong=[
            (lambda n: 10 * right_rate(n), "those are *factors*"),
            (without_warm_up, "the warm-up is missing"),
            (ramp, "many recipes do that"),
            (
                lambda n: 0.01 if n < 40 else without_warm_up(n),
                "changes to it with 40 updates done",
            ),
            (
                lambda n: 0.1 if n < 400 else right_rate(n) / 10,
                "the *lower* rate",
            ),
            (lambda n: 0.001 if n < 400 else right_rate(n), "not a hundredth"),
            (by_epochs, "that is none of your rates"),
            (no_first_drop, "the first division by 10 is missing"),
            (both_drops_missing, "both divisions by 10"),
            (hundredth, "not by 100"),
            (one_drop, "the second division by 10 is missing"),
            (lambda n: right_rate(n) / (10 if n >= 48_000 else 1), "1/100 in all"),
            (late, "the change comes too late; with"),
            (early, "the change comes too early"),
            (counted_after_warm_up, "counted from the start"),
            (lambda n: 0.1 / (1 + n) + 0.06, "inside this phase yours changes"),
            (lambda n: 0.01 if n < 400 else 10 / (100 + n), "it changes again and again"),
            (lambda n: right_rate(n) * 100, "no percentage"),
            (lambda n: right_rate(n) / 2, "All rates are 0.5 times"),
            (lambda n: right_rate(n if n < 3_200 else n * 10), "with 3,200 updates done"),
            (lambda n: 0.01 if n < 391 else right_rate(max(n, 400)), "391 updates are one epoch"),
            (lambda n: 0 if n >= 64_000 else right_rate(n), "has no end in the text"),
            (lambda n: {400: 0.1, 32_000: 0.01}.get(n, 0.1), "hold for a single update"),
            (
                lambda n: 0.01 if n < 400 else 0.1 * 0.1 ** ((n - 400) // 16_000),
                "inside this phase yours changes",
            ),
            (lambda n: 0.02 if n < 400 else right_rate(n), "the rate is 0.01, got"),
            (lambda n: "0.1", "Expected a number"),
        ],
    ),
    "momentum_update": Bank(
        right=[
            UPDATES["right"],
            by_torch,
            lambda *a: list(UPDATES["right"](*a)),
            lambda w, g, v, r, m, d: (
                w - r * (g + d * w) - r * m * v,
                g.add(w, alpha=d).add(v, alpha=m),
            ),
        ],
        wrong=[
            (UPDATES["rate inside"], "with the rate inside the velocity"),
            (UPDATES["average"], "scaled by 1 - momentum"),
            (UPDATES["damped"], "scaled by 1 - momentum"),
            (UPDATES["no decay"], "the weight decay is missing"),
            (UPDATES["decay after"], "the way of AdamW"),
            (UPDATES["decay without rate"], "and so into the velocity."),
            (UPDATES["decay twice"], "twice too large"),
            (UPDATES["decay half"], "half as large"),
            (UPDATES["decay times rate"], "the rate multiplies the weight decay twice"),
            (UPDATES["decay alone"], "λ alone was added"),
            (UPDATES["decay of the gradient"], "the *weight*, not the gradient"),
            (UPDATES["decay squared"], "that is λ · w²"),
            (UPDATES["decay in momentum"], "fades the old velocity alone"),
            (UPDATES["momentum of the gradient"], "multiplies the old velocity"),
            (UPDATES["momentum fixed"], "not always 0.9"),
            (UPDATES["decay sign"], "is *added* to the gradient"),
            (UPDATES["nesterov"], "Nesterov"),
            (UPDATES["old velocity"], "must use the *new* velocity"),
            (UPDATES["no momentum"], "the velocity was never used"),
            (UPDATES["velocity kept"], "the velocity was never used"),
            (UPDATES["returns old velocity"], "comes back is the old one"),
            (UPDATES["rate inside, minus"], "the rate and a minus inside"),
            (UPDATES["minus"], "the velocity has the other sign"),
            (UPDATES["decay norm"], "the norm, to all"),
            (UPDATES["decay value"], "the *value* of the penalty"),
            (UPDATES["decay sign of w"], "the gradient of λ · |w|"),
            (UPDATES["decay of the velocity"], "the *weight*, not the velocity"),
            (UPDATES["decay of the new weight"], "shrunk after its step"),
            (UPDATES["gradient in the step"], "the step was made with the gradient"),
            (UPDATES["normalized"], "divided by its norm"),
            (UPDATES["returns the step"], "comes back was multiplied by the rate"),
            (UPDATES["fades by the rest"], "not by 1 - `momentum`"),
            (UPDATES["average turned"], "where `momentum` and 1 belong"),
            (UPDATES["rate 0.1"], "the rate is the argument"),
            (UPDATES["decay 0.0001"], "the weight decay is the argument"),
            (UPDATES["fades nothing"], "does not fade"),
            (UPDATES["uphill"], "up the gradient"),
            (UPDATES["no rate"], "the rate is missing"),
            (UPDATES["swapped"], "two results are swapped"),
            (lambda w, g, v, r, m, d: (w - r * 2 * g, v), "in update 1 of 7"),
            (lambda w, g, v, r, m, d: UPDATES["right"](w, g, v, r, m, d)[0], "two tensors"),
            (in_place, "in place"),
            (UPDATES["momentum 0.9, decay 0.0001"], "are arguments, not always the same"),
        ],
    ),
    "predict_branch": Bank(
        given=(0.43, 0.28),
        right=[0.43 / 2**0.5, 0.3, 0.28, torch.tensor(0.31), numpy.float32(0.27)],
        wrong=[
            (0.43, "x would not have grown"),
            (0.215, "that is half"),
            (0.174, "blocks add. See"),
            (0.61, "not larger"),
            (0.86, "F stays as it is"),
            (0.7071, "the *factor*"),
            (1.414, "by how much x grows"),
            (30.4, "in per cent; give"),
            (28, "in per cent; give"),
            (3.3, "shortcut by branch"),
            (0.1075, "a quarter"),
            (0.05, "too small: it is the *variance*"),
            (0.36, "but not by enough"),
            (0.5, "more than residual-56's ratio, but"),
            (1, "then F would be as large as x"),
            (54**-0.5, "that is 1/√54"),
            (1 / 54, "one of 54 parts"),
            (0.192, "blocks add, or that is 1/√27"),
            (-0.3, "is positive"),
            ("small", "Expected a number"),
        ],
    ),
    "gap_in_noise": Bank(
        right=[right_gap, gap_by_torch, _gap, right_gap_with_scipy_words],
        wrong=[
            (lambda a, b: right_gap(b, a), "it is A minus B"),
            (lambda a, b: abs(right_gap(a, b)), "a minus got lost"),
            (lambda a, b: _gap(a, b, statistics.pvariance), "not by n. See"),
            (lambda a, b: _gap(a, b, divide=False), "*single runs*"),
            (lambda a, b: gap(a, b) / sum(errors(a, b)), "it is the variances that add"),
            (
                lambda a, b: gap(a, b) / (statistics.stdev(a) + statistics.stdev(b)),
                "number of runs is missing",
            ),
            (gap, "not yet divided by its noise"),
            (lambda a, b: gap(a, b) / sum(e**2 for e in errors(a, b)), "root of the sum is"),
            (of_deviations, "where *variances* belong"),
            (pooled, "were pooled"),
            (no_brackets, "only B's mean"),
            (root_of_one, "hold the whole sum"),
            (all_runs, "its *own* number"),
            (medians, "the medians were"),
            (lambda a, b: 1 / right_gap(a, b), "upside down"),
            (runs_of_a, "by A's number of runs"),
            (
                lambda a, b: (min(a) - min(b)) / sum(e**2 for e in errors(a, b)) ** 0.5,
                "the best runs were compared",
            ),
            (lambda a, b: gap(a, b) / errors(a, b)[0], "the noise of B is missing"),
            (lambda a, b: gap(a, b) / errors(a, b)[1], "the noise of A is missing"),
            (heap, "into one heap"),
            (minus_one_twice, "divides by n - 1 already"),
            (lambda a, b: gap(a, b) * sum(e**2 for e in errors(a, b)) ** 0.5, "was multiplied"),
            (other_runs, "by the *other* one's number"),
            (
                lambda a, b: gap(a, b) / sum(statistics.variance(x) / 3 for x in (a, b)) ** 0.5,
                "lists",
            ),
            (_paired, "compared in pairs"),
            (lambda a, b: 100 * right_gap(a, b), "no percentage"),
            (lambda a, b: round(right_gap(a, b)), "it was rounded"),
            (lambda a, b: round(_gap(a, b), 2), "it was rounded"),
            (lambda a, b: 1.2345678, "for the gap where A is worse, got"),
            (lambda a, b: None, "end with `return`"),
        ],
    ),
    "spot_the_tilt": Bank(
        right=[
            {"A", "B", "F", "G"},
            ["g", "f", "b", "a"],
            "ABFG",
            "A, B, F, G",
            ("A", "B", "F", "G"),
        ],
        wrong=[
            ({"B", "F", "G"}, "went into something"),
            ({"A", "F", "G"}, "fewer tries"),
            ({"A", "B", "G"}, "when training was over"),
            ({"A", "B", "F"}, "one number was kept"),
            ({"A", "B", "C", "F", "G"}, "Line C is innocent"),
            ({"A", "B", "E", "F", "G"}, "Line E is innocent"),
            ({"D"}, "Line D is innocent"),
            ({"A", "Z"}, "letters from A to G"),
            (4, "the letters of the bad lines"),
        ],
    ),
}
