"""Answers to the exercises of chapter 02."""

import math

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


def always(gradients, limit):
    return [g * (limit / joint_norm(gradients)) for g in gradients]


BANKS = {
    "leaky_std": Bank(
        right=[
            lambda a, n: math.sqrt(2 / ((1 + a**2) * n)),
            lambda a, n: torch.tensor(2.0 / (n + n * a * a)).sqrt(),
            lambda a, n: nn.init.calculate_gain("leaky_relu", a) / n**0.5,
        ],
        wrong=[
            (lambda a, n: 2 / ((1 + a**2) * n), "that is the variance"),
            (lambda a, n: math.sqrt(2 / n), "He's value for ReLU"),
            (lambda a, n: math.sqrt(2 / ((1 + a) * n)), "the slope enters squared"),
            (lambda a, n: math.sqrt(2 * (1 + a**2) / n), "must be smaller, not larger"),
            (lambda a, n: math.sqrt((1 + a**2) * n / 2), "the inverse"),
            (lambda a, n: math.sqrt(1 / n), "right for a linear layer"),
            (lambda a, n: math.sqrt(1 / ((1 + a**2) * n)), "the one half is missing"),
            (lambda a, n: math.sqrt(2 / (1 + a**2)), "the gain alone"),
            (lambda a, n: math.sqrt(2 / (abs(1 - a) * n + 1e-9)), "takes nothing away"),
            (lambda a, n: math.sqrt(2 / (abs(1 - a * a) * n + 1e-9)), "takes nothing away"),
            (lambda a, n: 0.01, "solve for the variance"),
            (lambda a, n: -math.sqrt(2 / n), "is positive"),
            (lambda a, n: None, "end with `return`"),
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
            (positive, "`torch.rand`"),
            (lambda *s: torch.zeros(s), "must be random"),
            (lambda *s: torch.randn(s) * 0.3, "what one output pixel reads"),
            (lambda *s: torch.randn(s[1], s[0], *s[2:]), "Expected shape"),
        ],
    ),
    "predict_padding": Bank(
        given=(0.667,),
        right=[2 / 3, 0.67, math.sqrt(4 / 9), torch.tensor(0.65), 0.7],
        wrong=[
            (4 / 9, "4 of 9 is the factor"),
            (0.4444, "4 of 9 is the factor"),
            (1, "assumes nine inputs"),
            (0.92, "about the value for 8"),
            (1.5, "can only take away"),
            (1 / 3, "as a root mean square, that is only the kernel's own pixel"),
            (1 / 9, "as a mean square, that is only"),
            (2 / 9, "as a mean square, that is two"),
            (0.8165, "as a root mean square, that is six"),
            (5 / 9, "as a mean square, that is five (you counted"),
            (0.745, "as a root mean square, that is five"),
            (0.5, "count the places inside the map, of nine"),
            (0.03, "count the places inside the map, of nine"),
            (-0.5, "is positive"),
            ("two thirds", "Expected a number"),
        ],
    ),
    "standardize": Bank(
        right=[
            scaled(lambda a, b: a.mean(), lambda a, b: a.std()),
            right_standardize,
            lambda a, b: tuple((p.double() - a.double().mean()) / a.double().std() for p in (a, b)),
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
            (scaled(lambda a, b: a.mean(0), lambda a, b: a.std()), "each pixel got its own mean"),
            (lambda a, b: (own(a), b.clone()), "the test images came back unchanged"),
            (lambda a, b: (a.clone(), own(b)), "the training images came back unchanged"),
            (lambda a, b: (own(a) + 0.1, b), "first subtract the mean, then"),
            (lambda a, b: own(a), "Expected two tensors"),
            (in_place, "changed its input in place"),
            (lambda a, b: (own(a), own(b)[:3]), "Expected shape"),
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
            (lambda g, limit: [p * 0 for p in g], "all gradients became 0"),
            (zero_by_zero, "0/0 was computed"),
            (clip_in_place, "changed its input in place"),
            (lambda g, limit: joint_norm(g), "Expected a list of 3"),
            (by(lambda g, limit: 0.01), "the norm should become"),
            (lambda g, limit: [g[0] * 0.1, *g[1:]], "the same number"),
        ],
    ),
    "growth": Bank(
        right=[
            lambda x, s: (s.square().mean() / x.var()).sqrt(),
            lambda x, s: s.norm() / (x - x.mean()).norm(),
            lambda x, s: math.sqrt((s.numpy() ** 2).mean() / x.numpy().var()),
        ],
        wrong=[
            (lambda x, s: s.square().mean() / x.var(), "the *squared* norm"),
            (lambda x, s: s.norm() / x.norm(), "BN takes the mean of x away"),
            (lambda x, s: (x.var() / s.square().mean()).sqrt(), "the inverse"),
            (lambda x, s: s.mean() / x.std(), "squared before their mean"),
            (lambda x, s: s.std() / x.std(), "nothing subtracted"),
            (lambda x, s: s.square().mean().sqrt(), "the slope alone"),
            (lambda x, s: 1 / x.std(), "BN's division alone"),
            (lambda x, s: s.square().mean() / x.std(), "no root is taken"),
            (lambda x, s: s.square().mean().sqrt() / x.var(), "standard deviation of x"),
            (lambda x, s: (s.mean() / x.var()).sqrt(), "squared before their mean"),
            (lambda x, s: math.sqrt(0.5 / x.var()), "ReLU's own"),
            (lambda x, s: 7.0, "the weights cancel"),
            (lambda x, s: s / x, "Expected one number"),
            (lambda x, s: x.sub_(x.mean()).std(), "changed its input in place"),
        ],
    ),
}
