"""Chapter 02, vanishing and exploding gradients: checks and quiz."""

import math
import random

import torch
from torch.nn import functional as F

from resnet_course.teaching.check import call, close, exercise, expect, number, show, tensor
from resnet_course.teaching.quiz import Question


def _first(value, known, tolerance, otherwise):
    """The reason that belongs to the wrong value nearest to `value`, if one is near."""
    away, why = min((abs(value / wrong - 1), why) for wrong, why in known if wrong)
    return why if away < tolerance else otherwise


@exercise(
    "2.1",
    expects="a function of slope and fan_in",
    right="for five slopes your weights pass a signal on with the factor 1.",
)
def leaky_std(attempt):
    """A function: (slope of a leaky ReLU, fan_in) -> standard deviation of the weights."""
    for a, fan_in in ((0.5, 300), (0, 128), (0.2, 576), (1, 50), (random.random(), 1000)):
        said = f"slope {a:.2g} and fan_in {fan_in}"
        got = number(call(attempt, a, fan_in), f"the standard deviation for {said}")
        expect(got > 0, f"A standard deviation is positive, got {got:.3g} for {said}.", 1)
        wanted = math.sqrt(2 / ((1 + a * a) * fan_in))
        known = [
            (wanted**2, "that is the variance; its root was asked for"),
            (math.sqrt(2 / fan_in), "that is He's value for ReLU: the slope does not enter"),
            (
                math.sqrt(2 / ((1 + a) * fan_in)),
                "the negative half is a mean of *squares*, so the slope enters squared",
            ),
            (
                math.sqrt(2 * (1 + a * a) / fan_in),
                "a leaky ReLU lets *more* through, so the weights must be smaller, not larger",
            ),
            (1 / wanted, "that is the inverse"),
            (
                math.sqrt(1 / fan_in),
                "that is right for a linear layer, where nothing is lost (slope 1)",
            ),
            (
                math.sqrt(1 / ((1 + a * a) * fan_in)),
                "the one half is missing: only half of the inputs are positive",
            ),
            (math.sqrt(2 / (1 + a * a)), "this is the gain alone; divide by the root of fan_in"),
        ]
        known += [
            (math.sqrt(2 / ((1 - lost) * fan_in)), "the negative half takes nothing away; it adds")
            for lost in (a, a * a)
            if 0 < lost < 1
        ]
        why = _first(got, known, 1e-3, "set the factor per layer to 1 and solve for the variance")
        ratio = got / wanted
        expect(
            abs(ratio - 1) < 1e-3,
            f"Expected {wanted:.4g} for {said}, got {got:.4g}, which multiplies the signal by "
            f"{ratio:.3g} in each layer: {why}.",
            2,
        )


@exercise(
    "2.2",
    expects="a function of out_channels, in_channels, height and width",
    right="mean 0, and the variance 2 / fan_in for square and oblong kernels.",
)
def conv_weight(attempt):
    """A function: (out, in, height, width) -> weight of that shape with variance 2 / fan_in."""
    for out, inputs, height, width in ((160, 48, 3, 3), (50, 200, 2, 5), (150, 60, 5, 3)):
        shape = (out, inputs, height, width)
        what = f"the weight of shape {shape}"
        weight = tensor(call(attempt, *shape), shape, "the weight")
        fan_in, variance = inputs * height * width, weight.var().item()
        expect(variance > 0, f"All numbers in {what} are equal: weights must be random.", 2)
        off = weight.mean().abs().item() / weight.std().item()
        expect(
            off < 0.1,
            f"The mean of {what} is {weight.mean().item():.3g}, expected 0: was it drawn with "
            "`torch.rand`, between 0 and 1?",
            2,
        )
        wanted = 2 / fan_in
        counted = [
            (2 / inputs, "fan_in counts pixels too: channels × height × width"),
            (2 / (inputs * width), "the height of the kernel is missing in fan_in"),
            (2 / (inputs * height), "the width of the kernel is missing in fan_in"),
            (2 / (out * height * width), "that is fan_out: it counts the *output* channels"),
            (2 / (height * width), "the input channels are missing in fan_in"),
            (2 / weight.numel(), "all numbers of the weight were counted, for one unit's inputs"),
        ]
        scaled = [
            (wanted**2, "2/fan_in was used as the standard deviation; it is the variance"),
            (math.sqrt(wanted), "the root was taken twice"),
            (1 / fan_in, "the 2, which makes up for the half that ReLU wipes out, is missing"),
            (1 / (3 * fan_in), "that is PyTorch's default"),
            (wanted / 3, "a uniform distribution between -s and s has the variance s²/3, not s²"),
            (1, "`torch.randn` was not scaled"),
        ]
        why = _first(variance, counted + scaled, 0.06, "count what one output pixel reads")
        expect(
            abs(variance / wanted - 1) < 0.06,
            f"Expected the variance 2/{fan_in} = {wanted:.3g} in {what}, got {variance:.3g}: "
            f"{why}.",
            2 if why in dict(scaled).values() else 1,
        )


@exercise("2.3", expects="a number, the factor you predict", right="you counted what is there.")
def predict_padding(attempt, measured):
    """The factor per layer on 2 x 2 maps, predicted, against the measured one."""
    guess = number(attempt, "the factor")
    side = "smaller" if measured < guess else "larger"
    facts = f"On 2 × 2 maps the measured factor is {side} than {guess:.3g}"
    expect(guess > 0, f"A ratio of two sizes is positive, got {guess:g}.")
    expect(
        not 0.97 < guess < 1.03,
        f"{facts}: He's count assumes nine inputs per channel; are all nine there?",
        1,
    )
    expect(guess < 1.03, f"{facts}: zeros can only take away from the sum, not add.", 1)
    expect(
        not 0.85 <= guess <= 0.97,
        f"{facts}: that is about the value for 8 × 8, but here *every* pixel lies at the edge.",
        1,
    )
    expect(
        abs(guess - 4 / 9) > 0.02,
        f"{facts}: 4 of 9 is the factor of the mean *square*; its root was asked for.",
        2,
    )
    for inside, kind, which in (
        (1, "mean square", "only the kernel's own pixel"),
        (1, "root mean square", "only the kernel's own pixel"),
        (2, "mean square", "two"),
        (2, "root mean square", "two"),
        (6, "root mean square", "six, as on the side of a larger map,"),
        (5, "mean square", "five (you counted those outside)"),
        (5, "root mean square", "five (you counted those outside)"),
    ):
        wrong = inside / 9 if kind == "mean square" else math.sqrt(inside / 9)
        expect(
            abs(guess - wrong) > 0.012,
            f"{facts}: as a {kind}, that is {which} of nine places inside; draw the map.",
            1,
        )
    expect(abs(guess - 2 / 3) < 0.04, f"{facts}: count the places inside the map, of nine.", 1)
    lost = (2 / 3) ** 17
    return (
        f"measured {measured:.3f}, you predicted {guess:.3g}. The 17 convolutions of plain-56 "
        f"that read 2 × 2 maps leave (2/3)^17 = {lost:.1g} of a signal."
    )


@exercise(
    "2.4",
    expects="a function of training and test images that returns both",
    right="the test images were treated with the training images' mean and standard deviation, "
    "whatever the company.",
)
def standardize(attempt):
    """A function: (training images, test images) -> both, with the training mean and std."""
    brightness = torch.rand(200, 1, 1, 1)
    training = (torch.rand(200, 1, 8, 8) * 6 + 8 * brightness).round()
    training[:, :, :, 0] = 0  # a column that is the same everywhere, as in the digits
    testing = (torch.rand(40, 1, 8, 8) * 9 + 4).round()
    result = call(attempt, training, testing)
    expect(
        isinstance(result, tuple | list) and len(result) == 2,
        f"Expected two tensors, training and test images, got {show(result)}.",
        2,
    )
    pairs = (("training", result[0], training), ("test", result[1], testing))
    for name, _, before in pairs:
        bad = next((r for n, r, _ in pairs if n == name), None)
        expect(
            isinstance(bad, torch.Tensor) and not bad.isnan().any() and not bad.isinf().any(),
            f"Expected a tensor of finite numbers for the {name} images, got {_what(bad)}: a "
            "standard deviation of 0 stands where *every* image has the same pixel; take one "
            "number for all pixels.",
            2,
        )
        tensor(bad, before.shape, f"the {name} images")
    mean, std = training.mean(), training.std()
    for name, got, before in pairs:
        got, wanted = got.detach().cpu().double(), ((before - mean) / std).double()
        top = before.argmax()
        why = _why_standardized(name, got, before.double(), training.double(), testing.double())
        expect(
            close(got, wanted, 2e-3),
            f"Expected {wanted.flatten()[top]:.3f} for the darkest of the {name} pixels, got "
            f"{got.flatten()[top]:.3f}: {why}.",
            1 if name == "test" else 2,
        )


def _what(value):
    if isinstance(value, torch.Tensor):
        return "NaN" if value.isnan().any() else "infinity"
    return show(value)


def _why_standardized(name, got, before, training, testing):
    both = torch.cat([training, testing])
    mean, std = training.mean(), training.std()
    per_image = (before - before.mean((1, 2, 3), keepdim=True)) / before.std(
        (1, 2, 3), keepdim=True
    )
    low, high = training.min(), training.max()
    known = [
        ((before - testing.mean()) / testing.std(), "they got the *test* images' own statistics"),
        ((before - both.mean()) / both.std(), "training and test images were measured together"),
        (before / std - mean, "it was divided before the mean was subtracted"),
        (before - mean / std, "only the mean was divided: brackets are missing"),
        ((before - mean) / testing.std(), "the *test* images' own standard deviation was used"),
        ((before - testing.mean()) / std, "the *test* images' own mean was subtracted"),
        ((before - mean) / std**2, "it was divided by the variance instead of its root"),
        (per_image, "every image got its own mean and deviation, so its brightness is lost"),
        (before - mean, "the mean is gone, but nothing was divided by the standard deviation"),
        (before / std, "they were divided, but the mean was not subtracted"),
        ((before - low) / (high - low), "that maps the smallest pixel to 0 and the largest to 1"),
        ((before - training.mean(0)) / std, "each pixel got its own mean; here one is for all"),
        (before, f"the {name} images came back unchanged"),
    ]
    otherwise = "first subtract the mean, then divide by the standard deviation"
    return next((why for wrong, why in known if close(got, wrong, 2e-3)), otherwise)


@exercise(
    "2.5",
    expects="a function of a list of gradients and a limit",
    right="it agrees with `clip_grad_norm_` above, at and below the limit, for gradients of 0 "
    "too, and leaves its input alone.",
)
def clip(attempt):
    """A function: (list of gradients, limit) -> list of clipped gradients."""
    shapes = ((7, 3), (7,), (4, 2, 3, 3))
    for limit, norm in ((2.0, 30.0), (1.5, 0.6), (0.25, 0.7), (10.0, 10.0), (3.0, 0.0)):
        parts = [torch.randn(shape) * 3**i for i, shape in enumerate(shapes)]
        total = math.sqrt(sum(part.square().sum().item() for part in parts))
        parts = [part * (norm / total) for part in parts]
        result = call(attempt, parts, limit)
        expect(
            isinstance(result, tuple | list) and len(result) == len(parts),
            f"Expected a list of {len(parts)} gradients, got {show(result)}.",
            1,
        )
        said = f"With norm {norm:g} and limit {limit:g}"
        if norm == 0:
            bad = any(isinstance(r, torch.Tensor) and r.isnan().any() for r in result)
            expect(not bad, "For gradients that are all 0, NaN came back: 0/0 was computed.", 2)
        named = zip(result, parts, strict=True)
        got = [tensor(r, p.shape, "a clipped gradient") for r, p in named]
        scale = limit / norm if norm > limit else 1.0
        right = all(close(g, scale * p, 1e-3) for g, p in zip(got, parts, strict=True))
        expect(right, f"{said}, {_why_clip(got, parts, limit, norm)}.", 1 if norm > limit else 2)


def _why_clip(got, parts, limit, norm):
    norms = [part.norm().item() for part in parts]
    factors = _common_factors(got, parts)
    flat = torch.cat([g.flatten() for g in got])
    if norm <= limit:
        if factors and all(f > 1.001 for f in factors):
            return (
                "nothing should change, but the gradients were scaled *up*: clipping only ever "
                "makes them smaller"
            )
        return "nothing should change: the norm is not above the limit"
    if not flat.any():
        return "all gradients became 0"
    own = [min(1.0, limit / n) for n in norms]
    if factors and all(abs(f / o - 1) < 1e-2 for f, o in zip(factors, own, strict=True)):
        return (
            "each tensor was clipped by its *own* norm, which turns the gradient in another "
            "direction; one scale is for all"
        )
    if not factors and flat.abs().max() <= limit * 1.001:
        return "each *number* was cut off at the limit, which changes the gradient's direction"
    if not factors or max(factors) / min(factors) > 1.01:
        return "not all gradients were multiplied by the same number"
    known = [
        (1.0, "the gradients came back as they were, above the limit"),
        (limit / sum(norms), "the norms were added up; squares add up, then comes the root"),
        (limit / max(norms), "the largest tensor's norm was taken, not that of all together"),
        (limit / norm**2, "the root of the sum of squares is missing"),
        (1 / norm, "the norm became 1 instead of the limit"),
        (norm / limit, "it was multiplied by norm / limit, the wrong way round"),
        (limit, "it was multiplied by the limit, without dividing by the norm"),
    ]
    otherwise = f"the norm should become {limit:g}, and became {flat.norm().item():.3g}"
    return _first(factors[0], known, 5e-3, otherwise)


def _common_factors(got, parts):
    """For each tensor the number it was multiplied by; an empty list if it was not one number."""
    factors = []
    for g, p in zip(got, parts, strict=True):
        p = p.double()
        if not p.any():
            return []
        factor = ((g * p).sum() / p.square().sum()).item()
        if not bool(((g - factor * p).abs() <= 1e-3 * g.abs().max() + 1e-12).all()):
            return []
        factors.append(factor)
    return [f for f in factors if f > 0] if all(f > 0 for f in factors) else []


ACTIVATIONS = {
    "a leaky ReLU with slope 0.2": lambda y: F.leaky_relu(y, 0.2),
    "ReLU": torch.relu,
    "the identity": lambda y: 1.0 * y,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "the absolute value": torch.abs,
}


def _sample(activation, count=200_000):
    y = torch.randn(count, dtype=torch.double, requires_grad=True)
    x = activation(y)
    (slope,) = torch.autograd.grad(x.sum(), y)
    return x.detach().float(), slope.float()


@exercise(
    "2.6",
    expects="a function of x and slope",
    right="your factor agrees with theory.",
)
def growth(attempt):
    """A function: (outputs, slopes at random places) -> gradient's factor per layer with BN."""
    found = {}
    for name, activation in ACTIVATIONS.items():
        x, slope = _sample(activation)
        got = number(call(attempt, x, slope), f"the factor of {name}")
        square, slope_mean = slope.square().mean().item(), slope.mean().item()
        variance = x.var().item()
        wanted = math.sqrt(square / variance)
        known = [
            (wanted**2, "that is the factor of the *squared* norm; the root is missing", 2),
            (
                math.sqrt(square / x.square().mean().item()),
                "that divides by the mean of x², but BN takes the mean of x away first",
                1,
            ),
            (1 / wanted, "that is the inverse: the slope multiplies, BN divides", 1),
            (slope_mean / x.std().item(), "the slopes must be squared before their mean", 2),
            (
                slope.std().item() / x.std().item(),
                "the mean of the squared slopes is needed, nothing subtracted from it",
                2,
            ),
            (math.sqrt(square), "that is the slope alone; BN's division is missing", 1),
            (1 / x.std().item(), "that is BN's division alone; the slope is missing", 1),
            (square / x.std().item(), "the slopes are squared, but no root is taken of them", 2),
            (math.sqrt(square) / variance, "divide by the standard deviation of x", 2),
            (math.sqrt(0.5 / variance), "the one half is ReLU's own: a mean that differs here", 2),
        ]
        if slope_mean > 0:
            mixed = math.sqrt(slope_mean / variance)
            known.append((mixed, "the slopes must be squared before their mean", 2))
        away, why, hint = min((abs(got / wrong - 1), *rest) for wrong, *rest in known if wrong)
        if away > 0.015:
            why, hint = "the weights cancel; go back to what the slope and BN leave", 1
        expect(
            abs(got / wanted - 1) < 0.01,
            f"Expected {wanted:.3f} for {name}, got {got:.4g}: {why}.",
            hint,
        )
        found[name] = wanted
    order = sorted(found, key=found.get)
    return (
        "from the calmest to the wildest: "
        + ", ".join(f"{n} {found[n]:.2f}" for n in order)
        + (". None is below 1.")
    )


QUIZ = [
    Question(
        "In a sigmoid network with 20 layers, PyTorch's default weights and no BN, all activations "
        "are near 0.5, in every layer. Does the signal get through?",
        [
            (
                "Yes: the activations neither vanish nor explode.",
                "Their *size* does not. But what differs between the images has vanished.",
            ),
            (
                "No: each unit says the same for every image.",
                "A signal is what differs. Here a constant goes through the network.",
            ),
            (
                "No: activations should be larger than 1.",
                "Their size alone says little; their differences carry the information.",
            ),
        ],
        right=1,
    ),
    Question(
        "A plain network has BN after every layer but the last. You multiply the weights of all "
        "layers that have a BN by 10. What happens, before any update?",
        [
            (
                "The signal grows tenfold in every layer, up to the outputs.",
                "BN divides by the size of what it gets, and that has become tenfold too.",
            ),
            (
                "The outputs stay the same, and so do these weights' gradients.",
                "The outputs do. But the same small change of a larger weight now matters less.",
            ),
            (
                "The outputs stay the same, these weights' gradients become a tenth.",
                "BN cancels the 10. A small change of a weight that is 10 times larger matters a "
                "tenth as much. Chapter 05 measures it.",
            ),
        ],
        right=2,
    ),
    Question(
        "In a deep network the first layer's gradient has the norm 0.000000001. Does "
        "`clip_grad_norm_(parameters, 1.0)` help?",
        [
            (
                "No: it only shortens, and all by the same factor.",
                "Clipping is against gradients that are too long. It never lengthens one.",
            ),
            (
                "Yes: it brings every layer's gradient to norm 1.",
                "It looks at one norm, of all gradients together, and only if that is above 1.",
            ),
            (
                "Yes, provided that the limit is set large enough.",
                "With a larger limit it does even less.",
            ),
        ],
        right=0,
    ),
    Question(
        "Raw pixels instead of standardized ones, in a deep ReLU network with He initialization. "
        "What changes in the profile of the signal?",
        [
            (
                "Its slope: each layer now multiplies by more than it did.",
                "The factor comes from the layers' weights and slopes, not from the input.",
            ),
            (
                "Its start, and so the whole line, by about one factor.",
                "Parallel lines. What standardizing sets is the beginning.",
            ),
            (
                "Nothing: He initialization adapts to the input's range.",
                "It is drawn without looking at any image.",
            ),
        ],
        right=1,
    ),
    Question(
        "Twenty linear layers with ReLU and far too small weights: on its way back, the gradient "
        "is multiplied by 0.08 in each layer. You put BN before every ReLU. What does the gradient "
        "do now, before any update?",
        [
            (
                "It vanishes as before: BN acts on the forward signal only.",
                "BN divides small signals by their small size. The gradient comes back through the "
                "same division, which makes up for the small weights.",
            ),
            (
                "It is level: BN sets the factor of every layer to 1.",
                "It sets the *signal's* variance to 1. Nothing does the same for the gradient; its "
                "factor comes out above 1.",
            ),
            (
                "It no longer vanishes. It grows by 1.2 per layer towards the input.",
                "The weights' size cancels. What remains is ReLU's own factor, for any "
                "initialization.",
            ),
        ],
        right=2,
    ),
]
