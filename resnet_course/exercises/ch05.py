"""Chapter 05, batch normalization: checks and quiz."""

import math

import torch
from torch import nn

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
    "5.1",
    expects="a function of a tensor and ε",
    right="your function agrees with the formula for 2, 3, 4 and 5 axes.",
)
def any_shape(attempt):
    """A function: (x, eps) -> x of the same shape, every channel (axis 1) normalized."""
    for shape in ((6, 3, 4, 5), (7, 4), (5, 3, 6), (3, 2, 2, 3, 4)):
        offsets = 3 * torch.randn(shape[1]).view(-1, *[1] * (len(shape) - 2))
        x = 1.5 * torch.randn(shape, dtype=torch.double) + offsets
        eps = 0.3 + torch.rand(1).item()
        what = f"an input of shape {shape}"
        try:
            out = call(attempt, x, eps)
        except (IndexError, RuntimeError) as error:
            if isinstance(error, NotImplementedError):
                raise
            raise Mistake(_why_it_stopped(error, what, len(shape)), 2) from error
        out = tensor(out, shape, f"the result for {what}")
        wanted = _normalized(x, [axis for axis in range(x.dim()) if axis != 1], eps)
        expect(close(out, wanted), *_why_normalized(out, x, eps, what))


def _why_it_stopped(error, what, axes):
    said = " ".join(str(error).split())[:120]
    if isinstance(error, IndexError):
        return f"With {what} the code stopped ({said}): ask `x.dim()` which axes there are."
    why = "keep the averaged axes, with `keepdim=True`, so that the mean fits `x`"
    if "dtype" in said:
        why = "what you multiply must have the type of `x`, here 64-bit numbers"
    elif "must match the size" not in said:
        why = f"it must work for {axes} axes"
    return f"With {what} the code stopped ({said}): {why}."


def _normalized(x, over, eps, unbiased=False):
    mean, var = x.mean(over, keepdim=True), x.var(over, unbiased=unbiased, keepdim=True)
    return (x - mean) / torch.sqrt(var + eps)


def _why_normalized(out, x, eps, what):
    axes = list(range(x.dim()))
    over = [axis for axis in axes if axis != 1]
    mean, var = x.mean(over, keepdim=True), x.var(over, unbiased=False, keepdim=True)
    centred = x - mean
    std = x.std(over, keepdim=True)
    known = [
        (centred / (var.sqrt() + eps), "ε belongs *inside* the root, added to the variance", 3),
        (centred / (std + eps), "ε belongs inside the root, and the variance is the biased one", 3),
        (centred / (var + eps), "it was divided by the variance, not by its square root", 3),
        (centred / var.sqrt(), "ε was left out", 3),
        (centred / std, "ε was left out, and the variance is not the biased one", 3),
        (
            _normalized(x, over, eps, unbiased=True),
            "the variance to normalize with is the *biased* one, divided by n, not n - 1",
            3,
        ),
        (centred, "the mean is 0, but nothing was divided by the standard deviation", 3),
        (x / torch.sqrt(var + eps), "the mean was not subtracted", 3),
    ]
    wrong_axes = [
        (axes, "all channels share one mean; each needs its own"),
        ([0], "each pixel got its own mean, over the images alone"),
        (axes[1:], "each *image* got one mean, over all its channels: that is layer normalization"),
        (axes[:-1], "the channels are axis 1, not the last one"),
    ]
    if len(axes) > 2:
        wrong_axes.append((axes[2:], "each image got its own mean; it must be the whole batch's"))
    for wrong, why in wrong_axes:
        if wrong != over:
            known += [(_normalized(x, wrong, eps, n), why, 1) for n in (False, True)]
    if len(axes) > 4:
        fixed = "the axes 0, 2, 3 are not all there are here; take every axis but 1"
        known.append((_normalized(x, [0, 2, 3], eps), fixed, 2))
    for value, why, hint in known:
        if close(out, value):
            return f"For {what}, {why}.", hint
    off = "average over every axis but the channels' and follow the formula"
    return f"For {what}, the values are not the normalized ones: {off}.", 3


NUMBERS = ("training", "running mean", "evaluation")


@exercise(
    "5.2",
    expects='a dictionary like {"training": 1.0, ...}',
    right="`nn.BatchNorm2d` gives the same three numbers: 0.5, 1.6 and 4.5.",
)
def equal_values(attempt):
    """A dictionary: "training", "running mean", "evaluation" -> numbers for a batch of sevens."""
    expect(isinstance(attempt, dict), f"Expected a dictionary, got {type(attempt).__name__}.")
    missing = [name for name in NUMBERS if name not in attempt]
    expect(not missing, f"Expected three numbers; {', '.join(missing)} is missing.")
    truth = dict(zip(NUMBERS, _sevens(), strict=True))
    known = {
        "training": [
            (7, "the batch's own mean is subtracted, so the 7 cannot survive"),
            (0, "the normalized value is 0, and then come γ and β"),
            (2.5, "that is γ · 1 + β, but a value equal to its mean normalizes to 0"),
            (14.5, "that is γ · 7 + β, without subtracting the mean"),
            (4.5, "that takes the running statistics; training mode takes the batch's"),
        ],
        "running mean": [
            (6.4, "PyTorch's momentum weights the *new* value, so the old one counts 0.9"),
            (7, "it moves by a tenth of the way, not all of it"),
            (1, "a forward pass in training mode does move it"),
            (0.95, "it remembers the mean of what comes *in*, not of the output"),
            (0.9, "it remembers the mean before normalization, not the 0 after it"),
        ],
        "evaluation": [
            (0.5, "that takes the batch's statistics; evaluation mode takes the running ones"),
            (4, "β is missing"),
            (2, "the normalized value is 2, and then come γ and β"),
            (2 * 6 / 9 + 0.5, "divide by the standard deviation 3, not by the variance 9"),
            (14.5, "the running mean 1 must be subtracted and the result divided by 3"),
            (
                2 * 5.4 / math.sqrt(8.1) + 0.5,
                "the evaluation comes *instead* of the training pass, not after it",
            ),
        ],
    }
    for hint, name in enumerate(NUMBERS, 1):
        got = number(attempt[name], f'"{name}"', hint)
        reasons = (why for value, why in known[name] if abs(got - value) < 5e-3)
        why = next(reasons, "go through the formula step by step")
        expect(abs(got - truth[name]) < 5e-3, f'"{name}" is not {got:.4g}: {why}.', hint)


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
    guess = number(attempt, "the number of batches")
    expect(guess > 0, f"A number of batches is at least 1, got {guess:g}.")
    layer, needed = nn.BatchNorm2d(1).double(), 0
    reached = {0: 0.0}
    while reached[needed] < 0.99 * 3:
        layer(torch.full((2, 1, 1, 1), 3.0, dtype=torch.double))
        needed += 1
        reached[needed] = layer.running_mean.item()
    whole = guess == round(guess)
    expect(whole, f"Expected a whole number of batches, got {guess:g}.", 2)
    known = [
        (2, "that would be with the momentum weighting the *old* value; PyTorch's weights the new"),
        (10, "ten steps of a tenth would do if they added up, but each is a tenth of what is left"),
        (9, "the steps do not add up; each is a tenth of what is left"),
        (22, "that is within 10 %, not 1 %"),
        (43, "close, but a whole number must be rounded up, not down"),
        (45, "count the updates, from the first on"),
        (46, "`exp(-0.1 * k)` is only near `0.9 ** k`"),
        (47, "`exp(-0.1 * k)` is only near `0.9 ** k`"),
        (459, "that is for a momentum of 0.01, TensorFlow's default of 0.99"),
    ]
    fewer = "each batch brings it a tenth of the remaining way"
    why = next((why for count, why in known if count == guess), fewer)
    so_far = reached.get(int(guess))
    at = f"After {guess:.4g} batches the running mean is "
    at += f"{so_far:.4g}, not yet 2.97" if so_far and guess < needed else "closer than asked"
    expect(guess == needed, f"{at}: {why}.", 2)
    return (
        f"`nn.BatchNorm2d` stands at {reached[43]:.4f} after 43 batches and {reached[44]:.4f} "
        "after 44; with TensorFlow's default momentum it would take 459."
    )


@exercise(
    "5.4",
    expects="a function of network, batches, images, labels and epochs",
    right="every update ran in training mode and every validation in evaluation mode, from both "
    "starting modes, and your errors are those of the validations.",
)
def mended_training(attempt):
    """A function: (network, batches, images, labels, epochs) -> validation error of each epoch."""
    for start in (True, False):
        epochs, count = 3, 4
        network = _small_network().train(start)
        batches = [(torch.randn(6, 1, 4, 4), torch.randint(0, 3, (6,))) for _ in range(count)]
        images, labels = torch.randn(9, 1, 4, 4), torch.randint(0, 3, (9,))
        weights = [p.detach().clone() for p in network.parameters()]
        passes = []

        def note(module, inputs, out, passes=passes, labels=labels):
            size = len(out)
            error = None
            if size == len(labels):
                error = (out.argmax(1) != labels).double().mean().item()
            passes.append((size, module.training, error))

        network.register_forward_hook(note)
        expect(callable(attempt), f"Expected a function, got {show(attempt)}.")
        got = attempt(network, batches, images, labels, epochs)
        _judge_training(got, network, passes, epochs, count, start)
        expect(
            any(not torch.equal(a, b) for a, b in zip(weights, network.parameters(), strict=True)),
            "The weights are what they were: the updates are gone.",
            2,
        )


def _small_network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


def _judge_training(got, network, passes, epochs, count, start):
    expect(got is not None, "The function returned None: does it end with `return`?")
    listed = isinstance(got, list | tuple) or (isinstance(got, torch.Tensor) and got.dim() == 1)
    expect(listed, f"Expected a list with one error per epoch, got {show(got)}.")
    training = [(i, mode) for i, (size, mode, _) in enumerate(passes) if size == 6]
    validation = [(mode, error) for size, mode, error in passes if size == 9]
    expect(
        len(training) == epochs * count,
        f"Expected {epochs * count} updates, {count} in each of {epochs} epochs, but the network "
        f"saw {len(training)} training batches.",
        1,
    )
    wrong = [number for number, (_, mode) in enumerate(training, 1) if not mode]
    if wrong and wrong[0] <= count and not start:
        said = "the network came in evaluation mode, and its first epoch was trained in it"
        raise Mistake(f"Update 1 ran in evaluation mode: {said}.", 2)
    expect(
        not wrong,
        f"Update {wrong[0] if wrong else 0} of {epochs * count} ran in evaluation mode: after a "
        "validation nobody called `train()`.",
        1,
    )
    expect(
        len(validation) == epochs,
        f"Expected {epochs} validations, one per epoch, but there were {len(validation)}.",
        1,
    )
    expect(
        not any(mode for mode, _ in validation),
        "A validation ran in training mode: its error depends on the batch, and it moved the "
        "running statistics.",
        2,
    )
    expect(len(got) == epochs, f"Expected {epochs} errors, one per epoch, got {len(got)}.")
    errors = [number(value, "each error") for value in got]
    right = all(abs(a - b) < 1e-4 for a, (_, b) in zip(errors, validation, strict=True))
    accuracy = all(abs(1 - a - b) < 1e-4 for a, (_, b) in zip(errors, validation, strict=True))
    hundred = all(abs(a - 100 * b) < 1e-2 for a, (_, b) in zip(errors, validation, strict=True))
    why = "those are accuracies, the share it got right" if accuracy else "compare `argmax(1)`"
    why = "give shares between 0 and 1, not per cent" if hundred and not right else why
    expect(right, f"The modes are right, but the errors are not the validations': {why}.", 1)
    expect(
        int(network[1].num_batches_tracked) == epochs * count,
        "Batch norm did not see every training batch exactly once.",
        1,
    )


@exercise(
    "5.5",
    expects="a function of a batch norm and a convolution",
    right="your convolution gave what the two layers give, with and without a bias, for equal and "
    "unequal numbers of channels, with negative γ and small variances.",
)
def fold_before(attempt):
    """A function: (bn, 1x1 conv) -> one nn.Conv2d that does both, in evaluation mode."""
    for c_in, c_out, bias in ((4, 6, False), (5, 5, False), (5, 5, True)):
        bn, conv = nn.BatchNorm2d(c_in).double().eval(), nn.Conv2d(c_in, c_out, 1, bias=bias)
        conv.double()
        with torch.no_grad():
            bn.running_mean.normal_()
            bn.running_var.uniform_(1e-5, 4e-5)  # so small that ε counts
            bn.weight.copy_(torch.tensor([-1.0, 1, -2, 2, 1])[:c_in] * 0.01)
            bn.bias.normal_()
        what = f"{c_in} channels in, {c_out} out, {'with' if bias else 'without'} a bias"
        folded = _folded_by(attempt, bn, conv, what)
        x = torch.randn(3, c_in, 4, 5, dtype=torch.double)
        with torch.no_grad():
            wanted, got = conv(bn(x)), folded.double()(x)
        got = tensor(got, wanted.shape, f"the output ({what})")
        expect(close(got, wanted), *_why_fold(got, x, bn, conv, what))


def _folded_by(attempt, bn, conv, what):
    try:
        folded = call(attempt, bn, conv)
    except TypeError as error:
        if conv.bias is not None or "NoneType" not in str(error):
            raise
        why = f"With {what} the code stopped: `conv.bias` is None, and cannot be added."
        raise Mistake(why, 3) from error
    except RuntimeError as error:
        said = " ".join(str(error).split())[:110]
        if "must match the size" not in said:
            raise
        why = "the factors of batch norm belong to the *input* channels, axis 1 of the weight"
        raise Mistake(f"With {what} the code stopped ({said}): {why}.", 2) from error
    good = isinstance(folded, nn.Conv2d)
    expect(good, f"Expected one `nn.Conv2d`, got {show(folded)}.")
    expect(folded is not conv, "The convolution that came in was given back: make a new one.")
    shape = tuple(folded.weight.shape)
    expect(
        shape == tuple(conv.weight.shape),
        f"Expected a weight of shape {tuple(conv.weight.shape)}, got {shape}: the factors belong "
        "to axis 1, with two axes behind it.",
        2,
    )
    expect(
        folded.bias is not None,
        "The new convolution has no bias, but batch norm adds a constant to every channel.",
        3,
    )
    wanted, got = (conv.out_channels,), tuple(folded.bias.shape)
    expect(
        got == wanted,
        f"Expected a bias of shape {wanted}, got {got}: t has one number for each *input* channel, "
        "and must go through the weight.",
        3,
    )
    return folded


def _why_fold(got, x, bn, conv, what):
    weight, old = conv.weight[:, :, 0, 0], conv.bias if conv.bias is not None else 0.0
    root = torch.sqrt(bn.running_var + bn.eps)
    scale = bn.weight / root
    shift = bn.bias - bn.running_mean * scale

    def run(s=scale, t=shift, w=weight, b=old, add=None):
        add = w @ t + b if add is None else add
        return nn.functional.conv2d(x, (w * s)[:, :, None, None], torch.as_tensor(add))

    no_eps = bn.weight / bn.running_var.sqrt()
    outside = bn.weight / (bn.running_var.sqrt() + bn.eps)
    by_var = bn.weight / (bn.running_var + bn.eps)
    zero = torch.zeros(len(weight), dtype=weight.dtype)

    def with_scale(s):
        return run(s=s, t=bn.bias - bn.running_mean * s)

    known = [
        (run(b=0.0), "the convolution's own bias was dropped", 3),
        (with_scale(no_eps), "ε is missing; with a small variance it counts", 1),
        (with_scale(outside), "ε belongs inside the root", 1),
        (with_scale(by_var), "it was divided by the variance, not by the standard deviation", 1),
        (with_scale(1 / root), "γ is missing", 1),
        (with_scale(scale.abs()), "γ can be negative, and must stay so", 1),
        (run(t=bn.bias), "the running mean was not subtracted", 1),
        (run(t=-bn.running_mean * scale), "β is missing", 1),
        (run(t=bn.bias - bn.running_mean), "the mean must be scaled before it is subtracted", 1),
        (run(add=zero + old), "the constant that batch norm adds was left out", 3),
        (
            run(add=weight @ (scale * shift) + old),
            "the constant was scaled a second time: t goes through the *old* weight",
            2,
        ),
    ]
    if len(weight) == len(scale):
        rows = nn.functional.conv2d(x, (weight * scale[:, None])[:, :, None, None])
        wide = (slice(None), None, None)
        after = "that is the fold of a batch norm *behind* the convolution"
        known += [
            (run(add=shift + old), "the constant t must go *through* the weight, W t", 3),
            (rows + (shift + old * scale)[wide], after, 2),
            (rows + shift[wide], after, 2),
            (
                rows + (weight @ shift + old)[wide],
                "the factors were put on the output channels; they belong to axis 1",
                2,
            ),
        ]
    for value, why, hint in known:
        if close(got, value.detach()):
            return f"With {what}, the outputs differ: {why}.", hint
    off = "multiply out W (s x + t) + b"
    return f"With {what}, the outputs differ from those of the two layers: {off}.", 2


QUIZ = [
    Question(
        "A batch of feature maps has the shape (32, 64, 14, 14). What does batch norm compute in "
        "training mode?",
        [
            (
                "64 means, each over 32 · 14 · 14 values.",
                "One for each channel, over images, height and width.",
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
        "In training mode, a test set gives 3 % error shuffled, and 60 % sorted by class. Why?",
        [
            (
                "Each batch changes the weights a little, and the order of the classes matters.",
                "Nothing is trained here; no weight changes.",
            ),
            (
                "The later batches are normalized with polluted running statistics.",
                "Training mode moves them, but does not use them.",
            ),
            (
                "Batch norm removes what a batch has in common, here the class itself.",
                "In a batch of threes the features of a three are the mean, which is subtracted.",
            ),
        ],
        right=2,
    ),
    Question(
        "A batch norm stands *before* a 3 × 3 convolution with zero padding. Can it be folded into "
        "the convolution exactly?",
        [
            (
                "Yes, as in exercise 5.5: scale the input channels and change the bias.",
                "Exercise 5.5 had no borders: a 1 × 1 convolution without padding.",
            ),
            (
                "No: at the border the padding is 0, which batch norm never touched.",
                "The folded constant W t would be added for padded pixels too, where it is wrong.",
            ),
            (
                "No: a 3 × 3 convolution mixes neighbours, so it is not linear.",
                "It is linear: each output is a weighted sum. Look at the border of the image.",
            ),
        ],
        right=1,
    ),
    Question(
        "Which sentence do this chapter's experiments support?",
        [
            (
                "Batch norm helps because it removes internal covariate shift.",
                "The shaken plain-8 had the largest shift, and learned faster than the folded one.",
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
