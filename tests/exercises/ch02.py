"""Answers to the exercises of chapter 02."""

import math

import numpy
import torch
from bank import Bank
from torch import nn


def drawn(count, root=True):
    """A conv weight whose variance is 2 / count(out, in, height, width)."""

    def weight(*shape):
        scale = 2 / count(*shape)
        return torch.randn(shape) * (math.sqrt(scale) if root else scale)

    return weight


def fan(out, inputs, height, width):
    return inputs * height * width


def uniform(times):
    return lambda *shape: (torch.rand(shape) * 2 - 1) * math.sqrt(times / fan(*shape))


def positive(*shape):
    return torch.rand(shape) * math.sqrt(2 / fan(*shape))


def pytorch_default(out, inputs, height, width):
    return nn.Conv2d(inputs, out, (height, width)).weight


def with_library(*shape):
    return nn.init.kaiming_normal_(torch.empty(shape))


def signs(*shape):
    return torch.randn(shape).sign() * math.sqrt(2 / fan(*shape))


def scaled(mean, std):
    """Standardize both parts with numbers from two functions of (train, test)."""
    return lambda train, test: tuple(
        (part - mean(train, test)) / std(train, test) for part in (train, test)
    )


def each_alone(how):
    return lambda train, test: (how(train), how(test))


def own(part):
    return (part - part.mean()) / part.std()


def per_image(part):
    return (part - part.mean((1, 2, 3), keepdim=True)) / part.std((1, 2, 3), keepdim=True)


def right_standardize(train, test):
    return [(part - train.mean()) / train.std(correction=0) for part in (train, test)]


def in_place(train, test):
    mean, std = train.mean(), train.std()
    return train.sub_(mean).div_(std), test.sub_(mean).div_(std)


def joint_norm(gradients):
    return torch.cat([g.flatten() for g in gradients]).norm()


def by(scale):
    """Clip with one scale(gradients, limit) for all, at most 1."""
    return lambda gradients, limit: [
        g * min(1.0, float(scale(gradients, limit))) for g in gradients
    ]


def library_clip(gradients, limit):
    parameters = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    nn.utils.clip_grad_norm_(parameters, limit)
    return tuple(parameter.grad for parameter in parameters)


def clip_in_place(gradients, limit):
    scale = min(1.0, (limit / (joint_norm(gradients) + 1e-6)).item())
    for gradient in gradients:
        gradient.mul_(scale)
    return gradients


def zero_by_zero(gradients, limit):
    scale = torch.clamp(limit / joint_norm(gradients), max=1.0)
    scale = scale if joint_norm(gradients) > 0 else scale * float("nan")
    return [g * scale for g in gradients]


def right_clip(gradients, limit):
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
    return [g * limit / norm if norm > limit else g.clone() for g in gradients]


def only_those_above(gradients, limit):
    scale = limit / (joint_norm(gradients) + 1e-9)
    return [g * scale if g.norm() > limit else g.clone() for g in gradients]


def spectral_norm(gradients):
    norms = [torch.linalg.matrix_norm(g, 2) if g.dim() == 2 else g.norm() for g in gradients]
    return torch.stack(norms).norm()


def always(gradients, limit):
    return [g * (limit / joint_norm(gradients)) for g in gradients]


def clip_by_division(gradients, limit):
    norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
    return [g * min(1, limit / norm) for g in gradients]


BANKS = {
    "leaky_std": Bank(
        right=[
            lambda a, n: math.sqrt(2 / ((1 + a**2) * n)),
            lambda a, n: torch.tensor(2.0 / (n + n * a * a)).sqrt(),
            lambda a, n: nn.init.calculate_gain("leaky_relu", a) / n**0.5,
            lambda a, n: numpy.sqrt(2 / (1 + numpy.square(a)) / n),
            lambda a, n: math.sqrt(2 / n) / math.hypot(1, a),
        ],
        wrong=[
            (lambda a, n: 2 / ((1 + a**2) * n), "that is the variance"),
            (lambda a, n: math.sqrt(2 / n), "He's value for ReLU"),
            (lambda a, n: math.sqrt(2 / ((1 + a) * n)), "the slope enters squared"),
            (lambda a, n: math.sqrt(2 * (1 + a**2) / n), "must be smaller, not larger"),
            (lambda a, n: math.sqrt((1 + a**2) * n / 2), "the inverse"),
            (lambda a, n: math.sqrt(1 / n), "where nothing is lost"),
            (lambda a, n: math.sqrt(1 / ((1 + a**2) * n)), "the one half is missing"),
            (lambda a, n: math.sqrt(2 / (1 + a**2)), "the gain alone"),
            (lambda a, n: math.sqrt(2 / (abs(1 - a) * n + 1e-9)), "takes nothing away"),
            (lambda a, n: math.sqrt(2 / (abs(1 - a * a) * n + 1e-9)), "takes nothing away"),
            (lambda a, n: 0.01, "neither slope nor fan_in"),
            (lambda a, n: 1 / (a + math.sqrt(n)), "and fan_in"),
            (lambda a, n: (2 / ((1 + a**2) * n)) ** 0.25, "root was taken once too often"),
            (lambda a, n: math.sqrt(2 / (a**2 * n + 1e-12)), "the positive half is missing"),
            (lambda a, n: math.sqrt(2 / n) * (1 - a), "takes nothing away"),
            (lambda a, n: math.sqrt((2 - a) / n), "is not taken from the 2"),
            (lambda a, n: math.sqrt(2 / (1 + a**2) / 576), "`fan_in` is not used"),
            (lambda a, n: -math.sqrt(2 / n), "is positive"),
            (lambda a, n: None, "end with `return`"),
            (lambda a, n: math.sqrt(2 / n) / (1 + a), "not as (1 + a)²"),
            (lambda a, n: math.sqrt(2 / (1 + a**2) * n), "missing around the divisor"),
            (lambda a, n: math.sqrt(2 / (1 + a**2 * n)), "the slope's square alone"),
            (lambda a, n: math.sqrt(2 / (1 + a**2)) / n, "belongs under the root"),
            (lambda a, n: math.sqrt(6 / ((1 + a**2) * n)), "the *bound* of a uniform"),
            (lambda a, n: math.sqrt(2 / ((1 + 0.01**2) * n)), "`slope` is not used"),
            (lambda a, n: math.sqrt((1 + a**2) / (2 * n)), "must stand below the line"),
            (lambda a, n: math.sqrt(1 / ((0.5 + a**2) * n)), "counts for both terms"),
        ],
    ),
    "conv_weight": Bank(
        right=[
            drawn(fan),
            uniform(6),
            signs,
            with_library,
            lambda *s: nn.init.trunc_normal_(torch.empty(s)) * math.sqrt(2 / 0.774 / fan(*s)),
            lambda *s: torch.randn(s).double().div(math.sqrt(fan(*s) / 2)),
        ],
        wrong=[
            (drawn(lambda o, i, h, w: i), "fan_in counts pixels too"),
            (drawn(lambda o, i, h, w: o * h * w), "that is fan_out"),
            (drawn(lambda o, i, h, w: i * h if h != w else fan(o, i, h, w)), "width of the kernel"),
            (drawn(lambda o, i, h, w: i * w if h > w else fan(o, i, h, w)), "height of the kernel"),
            (drawn(fan, root=False), "used as the standard deviation"),
            (drawn(lambda *s: 2 * fan(*s)), "the 2, which"),
            (drawn(lambda o, i, h, w: h * w), "input channels are missing"),
            (drawn(lambda *s: math.prod(s)), "all numbers of the weight"),
            (drawn(lambda *s: math.sqrt(2 * fan(*s))), "the root was taken twice"),
            (uniform(2), "a uniform distribution"),
            (pytorch_default, "PyTorch's default"),
            (lambda *s: torch.randn(s), "was not scaled"),
            (
                lambda *s: (torch.randn(*s[:2], 1, 1) * math.sqrt(2 / fan(*s))).expand(s),
                "not independent of each other",
            ),
            (
                lambda *s: torch.randn(s).clamp(-1, 1) * math.sqrt(2 / fan(*s)),
                "cutting off what is larger",
            ),
            (positive, "none of its numbers is negative"),
            (lambda *s: torch.zeros(s), "must be random"),
            (lambda *s: torch.randn(s) * 0.3, "the same whatever the sizes"),
            (lambda *s: torch.randn(s[1], s[0], *s[2:]), "the input channels come first"),
            (lambda *s: torch.randn(*s[:2], s[3], s[2]), "the width comes before"),
            (lambda *s: torch.randn(s[0], fan(*s)), "yours is a table"),
            (lambda *s: torch.randn(s)[None], "Expected shape"),
            (drawn(lambda o, i, h, w: 9 * i), "nine pixels were counted"),
            (drawn(lambda o, i, h, w: i * (h + w)), "height and width multiply"),
            (drawn(lambda o, i, h, w: i * h * h), "its width is another"),
            (drawn(lambda o, i, h, w: (o + i) * h * w / 2), "mean of fan_in and fan_out"),
            (lambda *s: torch.randn(s) / math.sqrt(2 / fan(*s)), "not multiplied"),
            (lambda *s: drawn(fan)(1, *s[1:]).expand(s), "got the same kernel"),
            (lambda *s: drawn(fan)(*s) - 0.2, "The mean of the weight is not 0."),
            (lambda *s: torch.randn(s) * math.sqrt(2 / (48 * 9)), "the same whatever the sizes"),
            (drawn(lambda *s: 30 * fan(*s)), "for the variance of the weight"),
        ],
    ),
    "predict_padding": Bank(
        given=(0.667,),
        right=[2 / 3, 0.67, math.sqrt(4 / 9), torch.tensor(0.65), 0.7],
        wrong=[
            (4 / 9, "4 of 9 is the factor of the mean *square*"),
            (0.4444, "4 of 9 is the factor of the mean *square*"),
            (1, "all nine inputs"),
            (0.92, "about the value for 8"),
            (1.5, "can only take away"),
            (1 / 3, "3 of nine places or as a root mean square, that is 1 of"),
            (1 / 9, "as a mean square, that is 1 of"),
            (2 / 9, "as a mean square, that is 2 of"),
            (0.8165, "or as a root mean square, that is 6 of"),
            (5 / 9, "as a mean square, that is 5 of"),
            (0.745, "as a root mean square, that is 5 of"),
            (0.5, "one half is a share of one axis"),
            (0.6, "for the factor, got 0."),
            ((4 / 9) ** 2, "4 of 9 squared"),
            (math.sqrt(2 / 9), "that is 2 of nine places or ReLU's half"),
            (math.sqrt(8 / 9), "He's 2, which makes up"),
            (0.23, "about a quarter of the factor"),
            (0.03, "for the factor, got 0."),
            (-0.5, "is positive"),
            ("two thirds", "got 'two thirds'."),
            (66.7, "If that is per cent"),
            ((0, 667), "a comma makes a tuple"),
        ],
    ),
    "standardize": Bank(
        right=[
            scaled(lambda a, b: a.mean(), lambda a, b: a.std()),
            right_standardize,
            lambda a, b: tuple((p.double() - a.double().mean()) / a.double().std() for p in (a, b)),
            lambda a, b: [(p - float(a.numpy().mean())) / float(a.numpy().std()) for p in (a, b)],
        ],
        wrong=[
            (each_alone(own), "the *test* images' own statistics"),
            (
                scaled(lambda a, b: torch.cat([a, b]).mean(), lambda a, b: torch.cat([a, b]).std()),
                "measured together",
            ),
            (lambda a, b: tuple(p / a.std() - a.mean() for p in (a, b)), "divided before the mean"),
            (scaled(lambda a, b: a.mean(), lambda a, b: a.var()), "by the variance instead"),
            (lambda a, b: tuple(p - a.mean() / a.std() for p in (a, b)), "brackets are missing"),
            (
                lambda a, b: (own(a), (b - a.mean()) / b.std()),
                "the *test* images' own standard deviation",
            ),
            (
                lambda a, b: (own(a), (b - b.mean()) / a.std()),
                "the *test* images' own mean was subtracted",
            ),
            (each_alone(per_image), "its brightness is lost"),
            (scaled(lambda a, b: a.mean(), lambda a, b: 1), "nothing was divided"),
            (scaled(lambda a, b: 0, lambda a, b: a.std()), "the mean was not subtracted"),
            (scaled(lambda a, b: a.min(), lambda a, b: a.max() - a.min()), "the largest to 1"),
            (scaled(lambda a, b: a.mean(0), lambda a, b: a.std(0)), "a standard deviation of 0"),
            (
                scaled(lambda a, b: a.mean(0), lambda a, b: a.std()),
                "each pixel got its own mean; here",
            ),
            (lambda a, b: (own(a), b.clone()), "The test images: they are unchanged"),
            (lambda a, b: (a.clone(), own(b)), "The training images: they are unchanged"),
            (lambda a, b: (own(a) + 0.1, b), "where the gap is largest"),
            (lambda a, b: own(a), "Expected two tensors"),
            (in_place, "changed its input in place"),
            (
                scaled(lambda a, b: a.mean(0), lambda a, b: a.std(0) + 1e-8),
                "its own mean and standard deviation",
            ),
            (
                scaled(lambda a, b: a.mean(), lambda a, b: a.std(0) + 1e-6),
                "each pixel got its own standard",
            ),
            (scaled(lambda a, b: a.mean(), lambda a, b: 1 / a.std()), "was multiplied by the"),
            (scaled(lambda a, b: -a.mean(), lambda a, b: a.std()), "the mean was added"),
            (lambda a, b: (own(b), own(b)), "in another shape"),
            (lambda a, b: right_standardize(a, b)[::-1], "The test images came back first"),
            (
                scaled(lambda a, b: a[0].mean(), lambda a, b: a[0].std()),
                "those of the first training image",
            ),
            (
                scaled(
                    lambda a, b: (a.mean() + b.mean()) / 2, lambda a, b: (a.std() + b.std()) / 2
                ),
                "the averages of both parts'",
            ),
            (
                scaled(lambda a, b: a.median(), lambda a, b: (a - a.median()).abs().mean()),
                "median and mean distance",
            ),
            (
                scaled(lambda a, b: a.mean(), lambda a, b: a.square().mean().sqrt()),
                "the root of the mean square",
            ),
            (scaled(lambda a, b: 4.88, lambda a, b: 6.02), "with other images, the same mean"),
            (
                lambda a, b: (scaled(lambda p, q: p.mean(), lambda p, q: p.std())(a, b)[0], b[:3]),
                "in another shape",
            ),
        ],
    ),
    "clip": Bank(
        right=[
            right_clip,
            library_clip,
            by(lambda g, limit: limit / (joint_norm(g) + 1e-6)),
            lambda g, limit: tuple(right_clip([p.double() for p in g], limit)),
        ],
        wrong=[
            (
                lambda g, limit: [p * min(1.0, limit / (p.norm().item() + 1e-9)) for p in g],
                "each tensor was clipped by its *own*",
            ),
            (lambda g, limit: [p.clamp(-limit, limit) for p in g], "each *number* was cut off"),
            (lambda g, limit: [p * (limit / (joint_norm(g) + 1e-9)) for p in g], "scaled *up*"),
            (always, "scaled *up*"),
            (
                by(lambda g, limit: limit / (sum(p.norm() for p in g) + 1e-9)),
                "the norms were added up",
            ),
            (by(lambda g, limit: limit / (max(p.norm() for p in g) + 1e-9)), "the largest tensor"),
            (by(lambda g, limit: limit / (joint_norm(g) ** 2 + 1e-9)), "the root of the sum"),
            (by(lambda g, limit: 1 / (joint_norm(g) + 1e-9)), "became 1 instead of the limit"),
            (lambda g, limit: [p.clone() for p in g], "came back as they were"),
            (lambda g, limit: [p * (joint_norm(g) / limit) for p in g], "the wrong way round"),
            (lambda g, limit: [p * limit for p in g], "multiplied by the limit"),
            (by(lambda g, limit: limit / (g[0].norm() + 1e-9)), "the first tensor's norm"),
            (
                by(lambda g, limit: limit / (sum(p.abs().sum() for p in g) + 1e-9)),
                "absolute values were added",
            ),
            (
                by(lambda g, limit: limit / (max(p.abs().max() for p in g) + 1e-9)),
                "the largest *number*",
            ),
            (lambda g, limit: [p * 0 for p in g], "all gradients became 0"),
            (zero_by_zero, "0/0 was computed"),
            (clip_in_place, "changed its input in place"),
            (lambda g, limit: joint_norm(g), "Expected a list with one"),
            (only_those_above, "whose own norm is above the limit"),
            (
                lambda g, limit: [p / limit if joint_norm(g) > limit else p for p in g],
                "it was divided by the limit",
            ),
            (
                by(lambda g, limit: limit / math.sqrt(sum(p.square().mean() for p in g) + 1e-9)),
                "squares were averaged in each tensor",
            ),
            (by(lambda g, limit: limit / (spectral_norm(g) + 1e-9)), "largest singular value"),
            (
                by(lambda g, limit: limit / (torch.stack(list(g)).norm() + 1e-9)),
                "flatten each before",
            ),
            (by(lambda g, limit: 0.01), "of all together (limit"),
            (lambda g, limit: [g[0] * 0.1, *g[1:]], "of all together (limit"),
            (clip_by_division, "it divides by 0"),
        ],
    ),
    "growth": Bank(
        right=[
            lambda x, s: (s.square().mean() / x.var()).sqrt(),
            lambda x, s: s.norm() / (x - x.mean()).norm(),
            lambda x, s: math.sqrt((s.numpy() ** 2).mean() / x.numpy().var()),
            lambda x, s: s.double().pow(2).mean().sqrt() / x.double().std(correction=0),
        ],
        wrong=[
            (lambda x, s: s.square().mean() / x.var(), "the *squared* norm"),
            (lambda x, s: s.norm() / x.norm(), "BN takes the mean of x away first."),
            (lambda x, s: (x.var() / s.square().mean()).sqrt(), "the inverse"),
            (lambda x, s: s.mean() / x.std(), "squared before their mean"),
            (lambda x, s: s.std() / x.std(), "nothing subtracted"),
            (lambda x, s: s.square().mean().sqrt(), "that is the slope alone"),
            (lambda x, s: 1 / x.std(), "slope's size does not"),
            (lambda x, s: s.square().mean() / x.std(), "no root is taken"),
            (lambda x, s: s.square().mean().sqrt() / x.var(), "standard deviation of x"),
            (lambda x, s: (s.mean() / x.var()).sqrt(), "squared before their mean"),
            (lambda x, s: math.sqrt(0.5 / x.var()), "ReLU's own"),
            (lambda x, s: s.square().mean() / x.square().mean(), "and the root is missing"),
            (lambda x, s: (s.square().mean() * x.var()).sqrt(), "you multiplied"),
            (lambda x, s: s.norm() / x.std(), "a sum stands where"),
            (lambda x, s: (s.square().mean() / x.std()).sqrt(), "not its standard deviation"),
            (lambda x, s: math.sqrt(math.pi / (math.pi - 1)), "ReLU's factor for every"),
            (lambda x, s: s.var() / x.var(), "nothing subtracted"),
            (lambda x, s: s.abs().mean() / x.std(), "squared before their mean"),
            (lambda x, s: 7.0, "does not depend on `x`"),
            (lambda x, s: s / x, "Expected one number"),
            (lambda x, s: ((s * x).square().mean() / x.var()).sqrt(), "in another order"),
            (lambda x, s: (s.square() / (x.square() + 1e-5)).mean().sqrt(), "in another order"),
            (
                lambda x, s: (s.square().mean() / (x.square().mean() - x.mean()).abs()).sqrt(),
                "minus the *square* of the mean",
            ),
            (lambda x, s: s.max() / x.std(), "that is the largest slope"),
            (lambda x, s: (s.square().mean() / x[x > 0].var()).sqrt(), "positive outputs alone"),
            (lambda x, s: ((s > 0).double().mean() / x.var()).sqrt(), "slope's size does not"),
            (lambda x, s: x.sub_(x.mean()).std(), "changed its input in place"),
            (
                lambda x, s: math.sqrt(s.square().mean() / ((math.pi - 1) / (2 * math.pi))),
                "does not depend on `x`",
            ),
        ],
    ),
}
