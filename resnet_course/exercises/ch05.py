"""Chapter 05, batch normalization: checks and quiz."""

import itertools
import math
import random

import torch
from torch import nn

from resnet_course.teaching.check import (
    Mistake,
    call,
    cause,
    close,
    exercise,
    expect,
    fallback,
    judge,
    number,
    row,
    same,
    show,
    tensor,
)
from resnet_course.teaching.quiz import Question


@exercise(
    "5.1",
    expects="a function of a tensor and ε",
    right="your function gives the formula's values for 2, 3, 4 and 5 axes in 64-bit numbers near "
    "0, and for 32-bit numbers around 10,000.",
)
def any_shape(attempt):
    """A function: (x, eps) -> x of the same shape, every channel (axis 1) normalized."""
    for axes in (4, 2, 3, 5):  # four first: there all known mistakes differ
        shape = random.sample(range(2, 8), axes)
        offsets = 3 * torch.randn(shape[1]).view(-1, *[1] * (axes - 2))
        x = 1.5 * torch.randn(shape, dtype=torch.double) + offsets
        eps = random.uniform(0.3, 0.8)
        what = f"an input with {axes} axes"
        out = _of_any_shape(attempt, x, eps, what)
        wanted, known = _normalized(x, _others(x), eps), _known_normalized(x, eps)
        if not same(out, wanted) and cause(out, [one[:2] for one in known]) is None:
            _judge_channels(out, x, eps, what)
        judge(out, wanted, what, known)
    x = torch.randn(6, 3, 5, 5) + 10_000
    wanted = _normalized(x.double(), _others(x), 0.01)
    out = call(attempt, x, 0.01)
    near = isinstance(out, torch.Tensor) and out.shape == x.shape and close(out, wanted, 0.02)
    expect(
        near,
        "It is right for 64-bit numbers near 0, and wrong for 32-bit numbers around 10,000, where "
        "two large squares leave few digits to their difference: subtract the mean *before* you "
        "square.",
    )


def _judge_channels(out, x, eps, what):
    """What the values of a channel have in common, where no known mistake fits."""
    over = _others(x)
    mean, var = x.mean(over, keepdim=True), x.var(over, unbiased=False, keepdim=True)
    scale = ((x - mean) * out).mean(over, keepdim=True) / var
    offset = out.mean(over, keepdim=True) - scale * mean
    start = f"Expected something else for {what}"
    expect(
        same(scale * x + offset, out),
        f"{start}: the values of one channel were not all shifted and scaled alike, as one mean "
        "and one variance for the whole channel do it.",
        1,
    )
    expect(
        not same(scale, torch.zeros_like(scale)),
        f"{start}: all values of a channel came out as the same number.",
        3,
    )
    centred = same(out.mean(over), torch.zeros(x.shape[1]))
    scaled = same(scale, 1 / torch.sqrt(var + eps))
    expect(
        not centred,
        f"{start}: every channel has mean 0, as it should, but was divided by another number than "
        "the root of its variance plus ε.",
        3,
    )
    expect(
        not scaled,
        f"{start}: every channel was divided by the right number, but its mean is not 0.",
        3,
    )
    raise Mistake(
        f"{start}: every channel was shifted and scaled, but its mean is not 0, and it was divided "
        "by another number than the root of its variance plus ε.",
        3,
    )


def _others(x):
    """Every axis but the channels'."""
    return [axis for axis in range(x.dim()) if axis != 1]


def _of_any_shape(attempt, x, eps, what):
    try:
        out = call(attempt, x, eps)
    except IndexError as error:
        why = "it names an axis that is not there; ask `x.dim()` which axes there are"
        raise Mistake(f"For {what} the code stopped: {why}.", 2) from error
    except RuntimeError as error:
        said = str(error)
        if isinstance(error, NotImplementedError):
            raise
        why = "sizes do not fit; with `keepdim=True` a mean keeps its axes, and fits `x`"
        if "dtype" in said or "expected scalar type" in said or "mixed" in said:
            why = "what you compute with must have the type of `x`, here 64-bit numbers"
        elif "must match the size" not in said:
            raise
        raise Mistake(f"For {what} the code stopped: {why}.", 2) from error
    except ValueError as error:  # a layer for one number of axes
        if "expected" not in str(error) or "input" not in str(error):
            raise
        raise Mistake(f"For {what} the layer inside refuses its input ({error}).", 2) from error
    same_count = isinstance(out, torch.Tensor) and out.numel() == x.numel()
    expect(
        not same_count or out.shape == x.shape,
        f"For {what} the numbers come back in another shape than they came: the axes must be where "
        "they were.",
        2,
    )
    expect(
        not isinstance(out, torch.Tensor) or out.dim() <= x.dim(),
        f"For {what} more axes come back than went in: a mean of shape (1, channels, 1, 1) fits "
        "four axes only; with `keepdim=True` it fits any `x`.",
        2,
    )
    return tensor(out, x.shape, f"the result for {what}")


def _normalized(x, over, eps, unbiased=False):
    mean, var = x.mean(over, keepdim=True), x.var(over, unbiased=unbiased, keepdim=True)
    return (x - mean) / torch.sqrt(var + eps)


def _reshaped(x, eps, shape, axis):
    """What `x.reshape(shape)` gives: it mixes the channels wherever there are pixels."""
    return _normalized(x.reshape(shape), [axis], eps).reshape(x.shape)


def _known_normalized(x, eps):
    axes, over = list(range(x.dim())), _others(x)
    mean, var = x.mean(over, keepdim=True), x.var(over, unbiased=False, keepdim=True)
    centred, std = x - mean, x.std(over, keepdim=True)
    known = [
        (centred / (var.sqrt() + eps), "ε belongs *inside* the root, added to the variance", 3),
        (centred / (std + eps), "ε belongs inside the root, and the variance is the biased one", 3),
        (centred / (var + eps), "it was divided by the variance, not by its square root", 3),
        (centred / var.sqrt(), "the `eps` that is given was not added to the variance", 3),
        (
            centred / std,
            "the `eps` that is given was not added, and the variance is not the biased one",
            3,
        ),
        (
            centred / var,
            "the `eps` that is given was not added, and it was divided by the variance",
            3,
        ),
        (centred / torch.sqrt(var + eps**2), "ε was squared; it is added as it is", 3),
        (centred * torch.sqrt(var + eps), "it was multiplied by the root; divide by it", 3),
        (
            _normalized(x, over, eps, unbiased=True),
            "the variance to normalize with is the *biased* one, divided by n, not n - 1",
            3,
        ),
        (centred, "the mean is 0, but nothing was divided by the standard deviation", 3),
        (x / torch.sqrt(var + eps), "the mean was not subtracted", 3),
        (x, "that is the input as it came", 3),
        (
            x - mean / torch.sqrt(var + eps),
            "only the mean was divided; x - μ needs brackets",
            3,
        ),
        (
            centred / torch.sqrt((x * x).mean(over, keepdim=True) + eps),
            "it was divided by the root of the mean *square*; the variance is taken from the mean",
            3,
        ),
        (
            (x - x.mean()) / torch.sqrt(var + eps),
            "the mean is that of all channels; the variance is right",
            1,
        ),
        (
            centred / torch.sqrt(x.var(unbiased=False) + eps),
            "the variance is that of all channels; the mean is right",
            1,
        ),
        (
            x / math.sqrt(1 + eps),
            "that is what a new layer does in evaluation mode, with mean 0 and variance 1; here "
            "the batch's are asked for",
            3,
        ),
        ((centred + eps) / torch.sqrt(var + eps), "ε was added above the fraction line too", 3),
        (centred / torch.sqrt(var) + eps, "ε was added to the result, not to the variance", 3),
        (centred / torch.sqrt(var - eps), "ε was subtracted; it is added", 3),
        (-centred / torch.sqrt(var + eps), "the sign is the wrong one: it is x - μ", 3),
        (mean.expand(x.shape), "that is the mean, not the normalized values", 3),
        (
            (x + mean) / torch.sqrt(var + eps),
            "the mean was added; it must be subtracted",
            3,
        ),
    ]
    size = centred.abs().mean(over, keepdim=True)
    words = "that is the mean *absolute* distance from the mean; the variance squares it"
    known += [(centred / torch.sqrt(size**2 + eps), words, 3), (centred / (size + eps), words, 3)]
    wrong_axes = [
        (axes, "all channels share one mean; each needs its own"),
        ([0], "each pixel got its own mean, over the images alone"),
        (axes[1:], "each *image* got one mean, over all its channels: that is layer normalization"),
        ([1], "the mean was taken over the channels; they are the axis that is *kept*"),
        (axes[:-1], "the channels are axis 1, not the last one"),
    ]
    if len(axes) > 2:
        wrong_axes.append((axes[2:], "each image got its own mean; it must be the whole batch's"))
        wrong_axes.append((axes[:-1:2] if len(axes) == 4 else [0, 2], "one axis is missing"))
        mixed = "a `reshape` mixes the channels: they must become the first or last axis before it"
        known.append((_reshaped(x, eps, (-1, x.shape[1]), 0), mixed, 2))
        known.append((_reshaped(x, eps, (x.shape[1], -1), 1), mixed, 2))
        own = x.var(axes[2:], unbiased=False, keepdim=True).mean(0, keepdim=True)
        averaged = (
            "each image got its own variance, and these were averaged; it is the whole batch's"
        )
        known.append((centred / torch.sqrt(own + eps), averaged, 1))
    met = [over]
    for wrong, why in wrong_axes:
        if wrong not in met:  # with few axes some of them are the same
            met.append(wrong)
            known += [(_normalized(x, wrong, eps, n), why, 1) for n in (False, True)]
    if len(axes) > 4:
        fixed = "the axes 0, 2, 3 are not all there are here; take every axis but 1"
        known.append((_normalized(x, [0, 2, 3], eps), fixed, 2))
    return known


NUMBERS = ("training", "running mean", "evaluation")


@exercise(
    "5.2",
    expects='a dictionary like {"training": 1.0, ...}',
    right="`nn.BatchNorm2d` gives the same three numbers: 0.5, 1.6 and 4.5.",
)
def equal_values(attempt):
    """A dictionary: "training", "running mean", "evaluation" -> numbers for a batch of sevens."""
    expect(isinstance(attempt, dict), f"Expected a dictionary, got {show(attempt)}.")
    missing = [name for name in NUMBERS if name not in attempt]
    expect(not missing, f"Expected three numbers; {', '.join(missing)} is missing.")
    open_ones = [name for name in NUMBERS if attempt[name] is ...]
    expect(not open_ones, f"Expected three numbers; {', '.join(open_ones)} is still open.")
    truth = dict(zip(NUMBERS, _sevens(), strict=True))
    known = {
        "training": [
            (7, "the batch's own mean is subtracted, so the 7 cannot survive"),
            (0, "the normalized value is 0, and then come γ and β"),
            (2, "that is γ alone, but γ multiplies the normalized value, which is 0"),
            (2.5, "that is γ · 1 + β, but a value equal to its mean normalizes to 0"),
            (14.5, "that is γ · 7 + β, without subtracting the mean"),
            (14, "that is γ · 7, without subtracting the mean, and without β"),
            (
                14 / math.sqrt(1e-5) + 0.5,
                "the mean of the batch was not subtracted before the division",
            ),
            (4.5, "that takes the running statistics; training mode takes the batch's"),
            (1, "γ multiplies the normalized value, which is 0, and not β; then β is added"),
            (-0.5, "β is added, not subtracted"),
        ],
        "running mean": [
            (6.4, "PyTorch's momentum weights the *new* value, so the old one counts 0.9"),
            (7, "it moves by a tenth of the way, not all of it"),
            (1, "a forward pass in training mode does move it"),
            (4, "it moves by a tenth of the way, not by half"),
            (0.7, "the old value counts too, with 0.9"),
            (1.7, "the old value counts 0.9, not 1"),
            (0.95, "it remembers the mean of what comes *in*, not of the output"),
            (0.9, "it remembers the mean before normalization, not the 0 after it"),
            (1.06, "that is with a momentum of 0.01, TensorFlow's default of 0.99"),
            (0.6, "that is the step alone; the running mean makes it from 1"),
            (6.3, "the two weights changed places, and one of the two means is missing"),
            (8, "the two means are weighted, with 0.9 and 0.1, before they are added"),
            (0.5, "that is what comes *out*; it remembers the mean of what comes *in*"),
            (1.05, "it remembers the mean of what comes *in*, not of the output"),
        ],
        "evaluation": [
            (0.5, "that takes the batch's statistics; evaluation mode takes the running ones"),
            (4, "β is missing"),
            (2, "the normalized value is 2, and then come γ and β"),
            (2.5, "that is the normalized value plus β: γ was left out"),
            (14 / 3 + 0.5, "the running mean was not subtracted"),
            (14 / 3, "the running mean was not subtracted, and β is missing"),
            (2 * 6 / 9 + 0.5, "divide by the standard deviation 3, not by the variance 9"),
            (12.5, "7 - 1 must be divided by the standard deviation"),
            (12, "7 - 1 must be divided by the standard deviation, and β is missing"),
            (36.5, "7 - 1 must be divided by the standard deviation, not multiplied"),
            (-3.5, "the sign of the difference is the wrong one: it is 7 - 1"),
            (3.5, "β is added, not subtracted"),
            (12 / 9, "divide by the standard deviation 3, not by the variance 9; β is missing"),
            (6 / 9 + 0.5, "divide by the standard deviation, not the variance; γ is missing"),
            (7, "that is the value as it came in"),
            (16 / 3 + 0.5, "the running mean was added; it is subtracted"),
            (
                12 / math.sqrt(8.1) + 0.5,
                "the evaluation comes *instead* of the training pass: the running variance is 9",
            ),
            (14.5, "the running mean 1 must be subtracted and the result divided by 3"),
            (
                2 * (2 + 0.5),
                "γ multiplies the normalized value alone; β is added afterwards",
            ),
            (
                2 * 5.4 / math.sqrt(8.1) + 0.5,
                "the evaluation comes *instead* of the training pass, not after it",
            ),
            (
                2 * 5.4 / 3 + 0.5,
                "the evaluation comes *instead* of the training pass: the running mean is still 1",
            ),
        ],
    }
    for hint, name in enumerate(NUMBERS, 1):
        no_number = isinstance(attempt[name], float) and not math.isfinite(attempt[name])
        expect(
            not (name == "training" and no_number),
            "Nothing is divided by 0 here: ε stands under the root.",
            hint,
        )
        got = number(attempt[name], f'"{name}"')
        reasons = [why for value, why in known[name] if abs(got - value) < 5e-3]
        if abs(got - truth[name]) >= 5e-3:
            why = " or ".join(reasons) or _what_it_means(name, got)
            raise Mistake(f'"{name}" is not {got:.4g}: {why}.', hint)


def _what_it_means(name, got):
    """A number that no known mistake gives, read back through the formula."""
    if name == "running mean":
        if not 1 <= got <= 7:
            return "it lies between the old mean, 1, and the batch's, 7"
        return f"that is {(got - 1) / 6:.3g} of the way from 1 to 7, and momentum 0.1 takes a tenth"
    start = f"γ times a normalized value, plus β, gives that for one of {got / 2 - 0.25:.4g}"
    if name == "training":
        return f"{start}, and what equals the batch's mean becomes 0"
    return f"{start}, and here it is how many running deviations 7 lies above the running mean"


def _sevens():
    """What PyTorch's layer gives for the channel of exercise 5.2."""
    x = torch.full((4, 1, 2, 2), 7.0, dtype=torch.double)
    layer = nn.BatchNorm2d(1).double()
    with torch.no_grad():
        for values, start in zip(layer.state_dict().values(), (2, 0.5, 1, 9), strict=False):
            values.fill_(start)
        evaluation = layer.eval()(x).mean().item()
        training = layer.train()(x).mean().item()
    return training, layer.running_mean.item(), evaluation


@exercise(
    "5.3",
    expects="a number of batches",
    right="`nn.BatchNorm2d` agrees, batch by batch.",
)
def memory(attempt):
    """The number of batches after which the running mean is within 1 % of the batches' mean."""
    expect(
        not (isinstance(attempt, float) and math.isinf(attempt)),
        "It never arrives at 3 itself, but within 1 % of 3 it does: ask when less than 0.03 is "
        "missing.",
        1,
    )
    guess = number(attempt, "the number of batches")
    expect(guess > 0, f"A number of batches is at least 1, got {guess:g}.")
    layer, needed = nn.BatchNorm2d(1).double(), 0
    reached = {0: 0.0}
    while reached[needed] < 0.99 * 3:
        layer(torch.full((2, 1, 1, 1), 3.0, dtype=torch.double))
        needed += 1
        reached[needed] = layer.running_mean.item()
    upside_down = math.log(0.9) / math.log(0.01)
    expect(abs(guess - upside_down) > 1e-4, "The quotient of the logarithms is upside down.", 2)
    expect(
        abs(guess - math.log(100)) > 0.01,
        "That is the logarithm of 100, which is still to be divided by that of 1 / 0.9.",
        2,
    )
    mean_itself = 2.9 < guess < 3
    expect(not mean_itself, "That is a running mean; asked is after how many batches it is near 3.")
    between = "batches are whole, and after the smaller whole number too much is missing: round up"
    linear = "9.9 steps of a tenth would do if they added up, but each is a tenth of what is left"
    whole = guess == round(guess)
    expect(abs(guess - 9.9) > 1e-6, f"Expected a whole number of batches; {linear}.", 2)
    expect(whole or math.floor(guess) != 43, f"{guess:.6g} is not a whole number; {between}.", 2)
    expect(whole, f"Expected a whole number of batches, got {guess:.6g}.", 2)
    mixed = "that divides a natural logarithm and a decimal one; both must be of one kind"
    near = "`exp(-0.1 * k)` is only near `0.9 ** k`"
    known = [
        (1, "one batch brings a tenth of the way; that would be a momentum of 1"),
        (2, "that would be with the momentum weighting the *old* value; PyTorch's weights the new"),
        (4, "that is near the logarithm of 100, which is still to be divided by that of 1 / 0.9"),
        (5, "that is near the logarithm of 100, which is still to be divided by that of 1 / 0.9"),
        (7, "that is where about half of the way is done"),
        (10, "ten steps of a tenth would do if they added up, but each is a tenth of what is left"),
        (9, "the steps do not add up; each is a tenth of what is left"),
        (18, mixed),
        (19, mixed),
        (21, "that is about where 10 % are missing, not 1 %"),
        (22, "that is within 10 %, not 1 %"),
        (28, "that is about where 5 % are missing, not 1 %"),
        (29, "that is within 5 %, not 1 %"),
        (33, "1 % of 3 is 0.03; within 0.1 is not near enough"),
        (
            43,
            "close, but one batch more is needed; a fraction of a batch is rounded up, and a count "
            "that begins at 0 is one short",
        ),
        (45, "count the updates, from the first on; the 0 before it is none"),
        (46, near),
        (47, near),
        (54, "1 % of the mean 3 is 0.03, not 0.01"),
        (55, "1 % of the mean 3 is 0.03; that is within 0.01, a third of it"),
        (65, "that is about where 0.1 % are missing, less than is asked"),
        (66, "that is within 0.1 %, more than is asked"),
        (87, "that is about where 0.01 % are missing, much less than is asked"),
        (88, "that is within 0.01 %, much more than is asked"),
        (100, "100 is 1 / 0.01; but what decides is `0.9 ** k`, still missing after k batches"),
        (101, mixed),
        (458, "that is for a momentum of 0.01, TensorFlow's default of 0.99"),
        (459, "that is for a momentum of 0.01, TensorFlow's default of 0.99"),
    ]
    why = next((why for count, why in known if count == guess), None)
    at = f"After {guess:.4g} batch{'es' * (guess != 1)} the running mean is "
    at += f"{reached[guess]:.4g}, not yet 2.97" if guess < needed else "closer than asked"
    if guess != needed:
        early = (
            f"too early, since {0.9 ** min(guess, 1e4):.3g} of the way, 0.9 ** k, is still missing"
        )
        late = "too late, since 0.9 ** k was below 0.01 before"
        raise Mistake(f"{at}: {why or (early if guess < needed else late)}.", 2)
    return (
        f"`nn.BatchNorm2d` stands at {reached[43]:.4f} after 43 batches and {reached[44]:.4f} "
        "after 44; with TensorFlow's default momentum it would take 459."
    )


@exercise(
    "5.4",
    expects="a function of network, batches, images, labels and epochs",
    right="from both starting modes, every epoch made its updates in training mode, each from the "
    "gradients of its own batch, and then one validation in evaluation mode, and your errors "
    "are those of the validations.",
)
def mended_training(attempt):
    """A function: (network, batches, images, labels, epochs) -> validation error of each epoch."""
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.")
    for start in (True, False):
        epochs, count = random.randrange(2, 5), random.randrange(3, 6)
        sizes = random.randrange(5, 12), random.randrange(20, 40)
        network = _small_network().train(start)
        batches = [
            (torch.randn(sizes[0], 1, 4, 4), torch.randint(0, 3, sizes[:1])) for _ in range(count)
        ]
        images, labels = torch.randn(sizes[1], 1, 4, 4), torch.randint(0, 3, sizes[1:])
        watch = Watch(network, batches, images)
        got = _trained_by(attempt, network, batches, images, labels, epochs)
        _judge_passes(watch, epochs, start)
        _judge_errors(got, watch, labels, epochs)


def _trained_by(attempt, *arguments):
    try:
        return attempt(*arguments)
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
        raise Mistake(
            "`backward()` found nothing to go back through: gradients were switched off while a "
            "batch went through the network. `no_grad` is for the validation alone.",
        ) from error


def _small_network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


class Watch:
    """Notes what a training loop does with a network, pass by pass.

    Each pass is a dict: its `kind` ("batch", "validation" or "unknown"), `what` (the batch's
    number, or the images' numbers and the predictions), `modes` (of the network and of the batch
    norm inside), `copied` (did it run on a copy?), and whether the weights had `moved` since the
    pass before.
    """

    def __init__(self, network, batches, images):
        self.network, self.norm = network, network[1]
        self.batches, self.images, self.passes = batches, images, []
        self.added_up, self.fresh = False, {}
        self.before = self.weights()
        # Functions, not methods: a copy of the network, as for a validation, tells the same Watch.
        network.register_forward_hook(lambda *arguments: self.note(*arguments))
        for parameter in network.parameters():
            parameter.register_hook(lambda g, p=parameter: self.fresh.update({p: g.clone()}))
            parameter.register_post_accumulate_grad_hook(lambda p: self.compare(p))

    def weights(self):
        return [p.detach().clone() for p in self.network.parameters()]

    def compare(self, parameter):
        """A gradient that is not the one of this backward pass holds earlier ones too."""
        if not torch.allclose(parameter.grad, self.fresh[parameter], atol=1e-7):
            self.added_up = True

    def note(self, network, inputs, out):
        x, kind, what = inputs[0], "unknown", None
        for i, (batch, _) in enumerate(self.batches):
            if x.shape == batch.shape and torch.equal(x, batch):
                kind, what = "batch", i
        if kind == "unknown" and x.shape[1:] == self.images.shape[1:]:
            found = (x[:, None] == self.images[None]).flatten(2).all(2)
            if found.any(1).all():
                kind, what = "validation", (found.int().argmax(1), out.detach().argmax(1))
        now = self.weights()
        moved = any(not torch.equal(a, b) for a, b in zip(self.before, now, strict=True))
        self.before = now
        self.passes.append(
            {
                "kind": kind,
                "what": what,
                "modes": (network.training, network[1].training),
                "mixed": len({module.training for module in network.modules()}) > 1,
                "copied": network is not self.network,
                "moved": moved,
            }
        )

    def last_update_moved(self):
        return any(not torch.equal(a, b) for a, b in zip(self.before, self.weights(), strict=True))

    def turns(self):
        """The passes, in groups of the same kind."""
        return [(kind, list(group)) for kind, group in itertools.groupby(self.passes, _kind)]


def _kind(one):
    return one["kind"]


def _judge_passes(watch, epochs, start):
    kinds = [one["kind"] for one in watch.passes]
    updates = [one for one in watch.passes if one["kind"] == "batch"]
    every = {one["what"] for one in updates} == set(range(len(watch.batches)))
    expect(
        "unknown" not in kinds or (every and "validation" in kinds),
        "The network was given something else than the batches and the images: each batch goes "
        "through as it is, and the validation images without others.",
    )
    expect(updates, "No training batch went through the network.", 2)
    expect(
        not any(one["copied"] for one in updates),
        "Batches went through a copy of the network: it is the network itself that must learn.",
    )
    _judge_number(watch, updates, epochs)
    expect("validation" in kinds, "The validation images never went through the network.")
    expect(
        kinds[0] == "batch",
        "A validation came before the first epoch's updates: the error after each epoch is asked.",
    )
    _judge_modes(watch, len(watch.batches), start)
    turns = [kind for kind, _ in watch.turns()]
    checked = turns.count("validation")
    few = "seldom: one belongs behind *every* epoch"
    often = "often: one belongs behind every epoch, and none between its batches"
    expect(
        checked == epochs,
        f"The network was validated too {few if checked < epochs else often}.",
    )
    expect(
        turns == ["batch", "validation"] * epochs,
        "Expected in every epoch its batches and then a validation, but batches and "
        "validations came in another order.",
    )
    expect(
        not watch.added_up,
        "The gradients of earlier batches were added to the new ones: `zero_grad()` is missing, "
        "or comes at the wrong place.",
    )
    after = [one["moved"] for one in watch.passes[1:]] + [watch.last_update_moved()]
    updated = [m for kind, m in zip(kinds, after, strict=True) if kind == "batch"]
    expect(
        watch.fresh, "No gradient ever arrived at the network's weights: `backward()` is missing."
    )
    cleared = all(p.grad is None or not p.grad.any() for p in watch.network.parameters())
    expect(
        any(updated) or not cleared,
        "The weights are what they were: the gradients were cleared before a `step()` used them.",
    )
    expect(any(updated), "The weights are what they were: no update was made, as without `step()`.")
    expect(
        all(updated),
        "Some batches were followed by no update: one `step()` belongs to each batch.",
    )
    expect(
        int(watch.norm.num_batches_tracked) == len(updates),
        "Batch norm did not see every training batch exactly once in training mode.",
    )


def _judge_number(watch, updates, epochs):
    """Did every batch go through the network once in every epoch?"""
    counts = [sum(one["what"] == i for one in updates) for i in range(len(watch.batches))]
    validated = any(one["kind"] == "validation" for one in watch.passes)
    expect(
        0 not in counts,
        "Some batches never went through the network: the loop over them ends too early, or takes "
        "only one.",
    )
    expect(
        min(counts) == max(counts) or max(counts) > epochs,
        "Not every batch went through the network in every epoch: some did more often than others.",
    )
    expect(
        min(counts) >= epochs,
        "All batches went through the network, but in fewer epochs than asked: a `return` inside "
        "the loop, or a loop that is too short.",
    )
    expect(
        max(counts) == epochs or validated,
        "The validation images never went through the network, and training batches did more "
        "often than once in an epoch: the error is asked for `images`.",
    )
    expect(
        max(counts) == epochs,
        "Training batches went through the network more often than once in an epoch.",
    )


def _judge_modes(watch, per_epoch, start):
    updates = [one["modes"] for one in watch.passes if one["kind"] == "batch"]
    expect(
        not any(outer and not inner for outer, inner in updates),
        "The network said that it was in training mode, but the batch norm inside was not: "
        "`train()` reaches the layers inside, setting `network.training` does not.",
        2,
    )
    wrong = [i for i, (_, inner) in enumerate(updates) if not inner]
    if wrong and wrong[0] == 0 and not start:
        came = "the network came in that mode, and was not put into training mode before them"
        raise Mistake(f"The first updates ran in evaluation mode: {came}.", 2)
    expect(
        not wrong or wrong[0] > 0,
        "The first updates ran in evaluation mode, though the network came in training mode: "
        "`eval()` belongs between an epoch's last update and its validation.",
        1,
    )
    expect(
        not wrong or wrong[0] < per_epoch,
        "After the first epoch updates ran in evaluation mode: between a validation and the "
        "next update the whole network must be put back with `train()`.",
        1,
    )
    expect(
        not wrong,
        "In the first epoch some updates ran in evaluation mode: the mode must stay until all its "
        "batches are through.",
        1,
    )
    checked = [one["modes"] for one in watch.passes if one["kind"] == "validation"]
    expect(
        not any(inner for _, inner in checked),
        "The images of the validation went through the network in training mode, and moved the "
        "running statistics; they must not teach it anything.",
        2,
    )
    mixed = [one["kind"] for one in watch.passes if one["mixed"]]
    where = "updates" if "batch" in mixed else "validations"
    expect(
        not mixed,
        f"In the {where} batch norm was in the right mode, and other modules were not: a dropout "
        "would have the wrong one, too. `train()` and `eval()` of the network set every module.",
        2,
    )


def _judge_errors(got, watch, labels, epochs):
    expect(got is not None, "The function returned None: does it end with `return`?")
    single = got.ndim == 0 if hasattr(got, "ndim") else isinstance(got, int | float)
    expect(not single, "Expected a list with one error for each epoch, got a single number.")
    good = hasattr(got, "ndim") or isinstance(got, list | tuple)
    expect(good, f"Expected a list with one error for each epoch, got {show(got)}.")
    expect(len(got) == epochs, "Expected one error for each epoch, but their number is another.")
    errors = row(got, epochs, "the validation errors")
    wanted = []
    for kind, passes in watch.turns():
        if kind == "validation":
            seen, said = (torch.cat(parts) for parts in zip(*map(_what, passes), strict=True))
            predicted = torch.full_like(labels, -1)
            predicted[seen] = said
            expect((predicted >= 0).all(), "In a validation some images were left out.")
            wanted.append((predicted != labels).double().mean().item())
    pairs = list(zip(errors, wanted, strict=True))

    def all_near(others):
        return all(abs(a - b) < 1e-4 for a, b in zip(errors, others, strict=True))

    if all_near(wanted):
        return
    known = [
        ([1 - b for b in wanted], "those are accuracies, the share it got right"),
        ([100 * b for b in wanted], "give shares between 0 and 1, not per cent"),
        (
            [len(labels) * b for b in wanted],
            "those are counts of wrong images; give shares between 0 and 1",
        ),
        (wanted[-1:] * epochs, "every epoch got the error of the last one"),
        (wanted[:1] * epochs, "every epoch got the error of the first one"),
        (wanted[::-1], "the last epoch comes first"),
        ([sum(wanted) / epochs] * epochs, "every epoch got the mean over the epochs"),
        (
            [sum(wanted[: i + 1]) / (i + 1) for i in range(epochs)],
            "each is the mean of all errors so far",
        ),
        ([sum(wanted[: i + 1]) for i in range(epochs)], "each is the sum of all errors so far"),
    ]
    words = [why for others, why in known if all_near(others)]
    if len(words) > 1:
        return  # by chance these mistakes look alike here; another draw will tell
    if words:
        raise Mistake(f"The modes are right, but the errors are not: {words[0]}.")
    expect(
        all(0 <= error <= 1 for error in errors),
        "The modes are right, but the errors are not: the share of the images that it got wrong "
        "lies between 0 and 1.",
    )
    i = next(i for i, (a, b) in enumerate(pairs) if abs(a - b) >= 1e-4)
    fallback(wanted[i], errors[i], f"the validation error of epoch {i + 1}")


def _what(one):
    return one["what"]


@exercise(
    "5.5",
    expects="a function of a batch norm and a convolution",
    right="your convolution gave what the two layers give, with and without a bias, for equal and "
    "unequal numbers of channels, strides 1 and 2, with other ε, negative γ and small variances.",
)
def fold_before(attempt):
    """A function: (bn, 1x1 conv) -> one nn.Conv2d that does both, in evaluation mode."""
    equal, (many, few) = random.randrange(4, 8), random.sample(range(4, 8), 2)
    # Equal numbers first: there every known mistake gives numbers, and not a wrong shape.
    for c_in, c_out, bias in (
        (equal, equal, True),
        (equal, equal, False),
        (many, few, True),
        (many, few, False),
    ):
        eps = 10 ** random.uniform(-4, -2)
        bn = nn.BatchNorm2d(c_in, eps=eps).double().eval()
        stride = 1 if c_in == c_out else 2
        conv = nn.Conv2d(c_in, c_out, 1, stride, bias=bias).double()
        with torch.no_grad():
            bn.running_mean.uniform_(0.5, 2).mul_(eps**0.5)
            bn.running_var.uniform_(0.3, 2).mul_(eps)  # so small that ε counts
            bn.weight.uniform_(0.5, 2).mul_(torch.tensor([-1.0, 1] * c_in)[:c_in])
            bn.bias.uniform_(0.5, 2)
        sizes = "equal numbers of channels" if c_in == c_out else "unequal numbers of channels"
        what = f"{sizes}, {'with' if bias else 'without'} a bias"
        folded = _folded_by(attempt, bn, conv, what)
        x = torch.randn(3, c_in, 4, 5, dtype=torch.double) * eps**0.5
        with torch.no_grad():
            wanted, got = conv(bn(x)), folded.double()(x)
        expect(
            stride == 1 or got.shape[2:] != x.shape[2:],
            "The image comes out in full size: the convolution had stride 2, the new one has 1.",
        )
        got = tensor(got, wanted.shape, f"the output ({what})")
        known = _known_folds(x, bn, conv)
        if not same(got, wanted) and cause(got, [one[:2] for one in known]) is None:
            _judge_parts(folded, bn, conv, f"With {what}")
        judge(got, wanted, f"the output ({what})", known)


def _folded_by(attempt, bn, conv, what):
    try:
        folded = call(attempt, bn, conv, leave="all")
    except TypeError as error:
        if conv.bias is not None or "NoneType" not in str(error):
            raise
        why = f"With {what} the code stopped: `conv.bias` is None, and cannot be used."
        raise Mistake(why, 3) from error
    expect(isinstance(folded, nn.Conv2d), f"Expected one `nn.Conv2d`, got {show(folded)}.")
    expect(folded is not conv, "The convolution that came in was given back: make a new one.")
    expect(
        folded.weight.shape == conv.weight.shape,
        "Expected the new weight to have the shape of the old one, (output channels, input "
        "channels, 1, 1), but it has another.",
        2,
    )
    expect(
        folded.bias is not None,
        "The new convolution has no bias, but batch norm adds a constant to every channel.",
        3,
    )
    got = tuple(folded.bias.shape)
    expect(
        got != (conv.in_channels,) or conv.in_channels == conv.out_channels,
        "Expected a bias with one number for each *output* channel, and it has one for each "
        "*input* channel: t must go through the weight.",
        3,
    )
    expect(
        got == (conv.out_channels,),
        "Expected a bias with one number for each output channel, and it has another shape.",
        3,
    )
    return folded


@torch.no_grad()
def _judge_parts(folded, bn, conv, start):
    """Which of weight and bias is right, if one is."""
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    weight = conv.weight * scale[:, None, None]
    bias = conv.weight[:, :, 0, 0] @ (bn.bias - bn.running_mean * scale)
    bias = bias if conv.bias is None else bias + conv.bias
    made = folded.weight.detach().double()
    factors = (made * conv.weight).sum(0) / conv.weight.square().sum(0)  # of each input channel
    weight_is, bias_is = same(folded.weight.detach(), weight), same(folded.bias.detach(), bias)
    expect(
        not weight_is,
        f"{start} the new weight is right, and the new bias is not: it is the old weight, as a "
        "matrix, times the vector t, plus the old bias if there is one.",
        3,
    )
    if not weight_is and same(conv.weight * factors, made):
        eps = (bn.weight / factors.flatten()).square() - bn.running_var
        constant = (eps - eps.mean()).abs().max() < 1e-3 * eps.mean()
        expect(not constant, f"{start} another number than `bn.eps` stands for ε.", 1)
        raise Mistake(
            f"{start} the old weight was multiplied along axis 1, as it should be, but by other "
            "factors than γ / √(σ² + ε).",
            1,
        )
    expect(
        not bias_is,
        f"{start} the new bias is right, and the new weight is not: s multiplies the old weight "
        "along axis 1.",
        2,
    )


@torch.no_grad()
def _known_folds(x, bn, conv):
    """(output of the whole, what was done, hint) for the known mistakes."""
    weight = conv.weight[:, :, 0, 0]
    old = conv.bias if conv.bias is not None else torch.zeros(len(weight)).to(weight)
    root = torch.sqrt(bn.running_var + bn.eps)
    scale = bn.weight / root
    shift = bn.bias - bn.running_mean * scale
    zero = torch.zeros_like(old)

    def run(s=scale, t=shift, b=old, add=None, w=None):
        add = weight @ t + b if add is None else add
        w = weight * s if w is None else w
        return nn.functional.conv2d(x, w[:, :, None, None], add, conv.stride)

    def with_scale(s):
        return run(s=s, t=bn.bias - bn.running_mean * s)

    known = [
        (with_scale(bn.weight / bn.running_var.sqrt()), "ε is not added under the root", 1),
        (
            with_scale(bn.weight / bn.running_var.sqrt() + bn.eps),
            "ε is not added under the root",
            1,
        ),
        *(
            (
                with_scale(bn.weight / torch.sqrt(bn.running_var + eps)),
                "ε is `bn.eps`, and not always the same number",
                1,
            )
            for eps in (1e-5, 1e-3)
        ),
        (
            with_scale(bn.weight / (bn.running_var.sqrt() + bn.eps)),
            "ε belongs inside the root",
            1,
        ),
        (
            with_scale(bn.weight / (bn.running_var + bn.eps)),
            "it was divided by the variance, not by the standard deviation",
            1,
        ),
        (with_scale(bn.weight * root), "it was multiplied by the standard deviation", 1),
        (with_scale(1 / scale), "it was multiplied by the standard deviation", 1),
        (run(s=1 / scale), "it was multiplied by the standard deviation", 1),
        (with_scale(1 / root), "γ is missing", 1),
        (with_scale(scale.abs()), "γ can be negative, and must stay so", 1),
        (run(t=bn.bias), "the running mean was not subtracted", 1),
        (run(t=-bn.running_mean * scale), "β is missing", 1),
        (run(t=bn.bias - bn.running_mean), "the mean must be scaled before it is subtracted", 1),
        (
            run(t=bn.bias - bn.running_mean / root),
            "the mean must be scaled by γ too before it is subtracted",
            1,
        ),
        (run(t=bn.bias + bn.running_mean * scale), "the mean was added; it is subtracted", 1),
        (
            run(t=(bn.bias - bn.running_mean) * scale),
            "β was scaled with the mean; it is added as it is",
            1,
        ),
        (run(s=bn.weight, t=bn.bias), "the running statistics were left out", 1),
        (with_scale(bn.weight), "nothing was divided by the standard deviation", 1),
        (
            run(add=shift.sum() + old),
            "the numbers in t were summed up without the weights; it is W t",
            3,
        ),
        (run(add=weight.sum(1) + old), "the weights were summed up without t; it is W t", 3),
        (run(add=-(weight @ shift) + old), "the constant W t was subtracted; it is added", 3),
        (run(add=old), "the constant that batch norm adds was left out", 3),
        (
            run(add=weight @ (scale * shift) + old),
            "the constant was scaled a second time: t goes through the *old* weight",
            2,
        ),
        (run(w=weight), "the weight was not scaled", 2),
        (
            nn.functional.conv2d(x, weight[:, :, None, None], old, conv.stride),
            "batch norm was left out",
            2,
        ),
    ]
    if conv.bias is not None:
        known += [
            (run(b=zero), "the convolution's own bias was dropped", 3),
            (run(b=2 * old), "the convolution's own bias was added twice", 3),
            (run(b=-old), "the old bias was subtracted; it is added", 3),
            (run(add=zero), "the constant of batch norm was left out, and the old bias too", 3),
        ]
    if len(weight) == len(scale):
        turned = "the weight was transposed; its shape is (output channels, input channels, 1, 1)"
        known += [
            (run(w=(weight * scale).T, add=weight @ shift + old), turned, 2),
            (run(w=weight.T * scale, add=weight @ shift + old), turned, 2),
            (run(w=weight.T * scale, add=weight.T @ shift + old), turned, 2),
        ]
        rows = weight * scale[:, None]
        behind = "that is the fold of a batch norm *behind* the convolution"
        known += [
            (run(add=shift + old), "the constant t must go *through* the weight, W t", 3),
            (run(add=shift), "the constant t must go *through* the weight, W t", 3),
            (run(w=rows, add=shift + old * scale), behind, 2),
            (run(w=rows, add=shift), behind, 2),
            (
                run(w=rows, add=weight @ shift + old),
                "the factors were put on the output channels; they belong to axis 1",
                2,
            ),
            (
                run(add=weight @ shift + old * scale),
                "the old bias was scaled, but batch norm comes *before* it is added",
                3,
            ),
            (run(add=weight.T @ shift + old), "the weight was transposed for the constant", 3),
        ]
    return known


QUIZ = [
    Question(
        "A batch of feature maps has the shape (32, 64, 14, 14). What does batch norm compute in "
        "training mode?",
        [
            (
                "64 means, each over the 32 · 14 · 14 values of one channel.",
                "One for each channel: over images, height and width.",
            ),
            (
                "32 · 64 means, each over 14 · 14 values.",
                "That is one for each image's own map, which is instance normalization.",
            ),
            (
                "64 · 14 · 14 means, each over 32 values.",
                "A convolution treats all pixels of a channel alike, and so does batch norm.",
            ),
        ],
        right=0,
    ),
    Question(
        "A network in training mode runs on the test images under `torch.no_grad()`. What happens?",
        [
            (
                "The same as in evaluation mode, because no gradient is recorded.",
                "`no_grad()` only stops that recording. The mode is another switch.",
            ),
            (
                "The answers depend on the batches, and the running statistics move.",
                "Each forward pass in training mode does both, gradients or not.",
            ),
            (
                "The answers depend on the batches, but the network stays as it was.",
                "The parameters stay; the running statistics are buffers, and they move.",
            ),
        ],
        right=1,
    ),
    Question(
        "A batch norm stands *before* a 3 × 3 convolution without padding. Can it be folded into "
        "the convolution, as in exercise 5.5?",
        [
            (
                "Yes; but not if the convolution pads with zeros.",
                "W (s x + t) multiplies out for any kernel. Padded pixels are 0, which batch norm "
                "never touched: there the folded constant W t would be wrong.",
            ),
            (
                "Yes, and with zero padding in just the same way.",
                "At the border the padding is 0, which batch norm never touched; the folded "
                "constant W t would be added for it too.",
            ),
            (
                "No: a 3 × 3 convolution mixes neighbours, so it is not linear.",
                "It is linear: each output is a weighted sum of the pixels under the kernel.",
            ),
        ],
        right=0,
    ),
    Question(
        "Weights in front of a batch norm are made 10 times as long, in a network that is being "
        "trained. What changes?",
        [
            (
                "Nothing: batch norm divides the factor out again.",
                "That holds for the outputs. What about the gradient, and the next update?",
            ),
            (
                "The outputs stay; each update now turns the weights 100 times less.",
                "The gradient is 10 times smaller, and the weights it moves 10 times longer: the "
                "effective learning rate is η / ‖w‖².",
            ),
            (
                "The outputs grow by 10, and the running statistics have to follow them first.",
                "The batch's mean and deviation grow by 10 as well, and the factor cancels.",
            ),
        ],
        right=1,
    ),
    Question(
        "Which sentence do this chapter's experiments support?",
        [
            (
                "Batch norm helps because it removes internal covariate shift, so that no layer "
                "aims at a moving target.",
                "Each at its best rate, the shaken plain-8 ended with a lower loss than the "
                "undisturbed one without batch norm, though its shift was the larger one.",
            ),
            (
                "Without batch norm a network as small as plain-8 learns at no learning rate.",
                "The folded plain-8 learned well at small rates.",
            ),
            (
                "Batch norm lets a network learn at larger learning rates; why is contested.",
                "That was measured, and no more.",
            ),
        ],
        right=2,
    ),
]
