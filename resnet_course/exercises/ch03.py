"""Chapter 03, the degradation problem: checks and quiz."""

import math
import random
from dataclasses import replace

import torch
from torch import nn

from resnet_course import resnet, train
from resnet_course.check import call, choice, close, exercise, expect, number, tensor
from resnet_course.quiz import Question


@exercise(
    "3.1",
    expects="a function of a network",
    right="your count agrees on plain, residual and bottleneck networks, and on a linear one.",
)
def count_layers(attempt):
    """A function: network -> number of convolutions on the main path plus linear layers."""
    for build, wanted, said in [
        (lambda: resnet.cifar_plain(20, in_channels=1), 20, "plain-20"),
        (lambda: resnet.cifar_resnet(8, shortcut="C"), 8, "residual-8 with projection shortcuts"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 2)),
            1,
            "a network with one linear layer",
        ),
    ]:
        network = build()
        got = number(call(attempt, network), f"the layers of {said}")
        sentence = f"Expected {wanted} layers with weights for {said}, got {got:g}"
        expect(got == wanted, f"{sentence}: {_why_count(network, wanted, got)}.", 2)
    network = resnet.resnet50(num_classes=10)
    got = number(call(attempt, network), "the layers of ResNet-50")
    expect(
        got == 50, f"Expected 50 for ResNet-50, got {got:g}: its blocks have three convolutions."
    )


def _why_count(network, wanted, got):
    kinds = [type(m) for m in network.modules()]
    convs, norms = kinds.count(nn.Conv2d), kinds.count(nn.BatchNorm2d)
    shortcuts = sum("downsample.0" in name for name, _ in network.named_modules())
    known = [
        (wanted - 1, "one is missing, the linear layer at the end or the first convolution"),
        (wanted - 2, "the first convolution and the linear layer have weights too"),
        (wanted + norms, "batch norm has learned numbers, but is not counted as a layer"),
        (wanted + shortcuts, "the shortcuts' 1x1 convolutions do not count"),
        (convs + norms + 1, "neither batch norm nor the shortcuts count"),
        (len(kinds), "every module was counted, also those without weights"),
        (len(list(network.children())), "only the outermost modules were looked at"),
        (len(list(network.parameters())), "those are parameter tensors; a layer can have two"),
        (sum(p.numel() for p in network.parameters()), "those are single learned numbers"),
    ]
    return next(
        (why for count, why in known if count == got),
        "count convolutions and linear layers, at any depth, shortcuts left out",
    )


@exercise(
    "3.2",
    expects="a function of channels and size",
    right="your kernel left random images unchanged for 1 to 5 channels and sizes 1, 3 and 5.",
)
def identity_kernel(attempt):
    """A function: (channels, odd size) -> weight (channels, channels, size, size)."""
    for channels, size in ((3, 3), (1, 5), (5, 1), (4, 3), (2, 5)):
        weight = call(attempt, channels, size, hint=1)
        what = f"the kernel for {channels} channels and size {size}"
        weight = tensor(weight, (channels, channels, size, size), what)
        image = torch.randn(2, channels, 7, 9, dtype=torch.double)
        out = nn.functional.conv2d(image, weight, padding=size // 2)
        expect(close(out, image), f"For {what}, the output is not the input: {_why(weight)}.", 2)


def _why(weight):
    channels, _, size, _ = weight.shape
    centre = weight[:, :, size // 2, size // 2]
    rest = weight.clone()
    rest[:, :, size // 2, size // 2] = 0
    eye = torch.eye(channels, dtype=weight.dtype)
    if not weight.any():
        return "the kernel is 0 everywhere, and so is what comes out"
    if (weight == weight.flatten()[0]).all():
        return "with the same number everywhere it blurs the image and mixes the channels"
    if rest.any() and close(weight.sum((2, 3)), eye):
        return "it averages or shifts the pixels; only the centre may differ from 0"
    if rest.any():
        return "only the centre of each kernel may differ from 0"
    if close(centre, torch.ones_like(centre)):
        return "every output channel adds up all input channels; it must take its own alone"
    if close(centre, centre * eye):
        return "the centres have the right places, but their value must be 1"
    return "output channel i must read input channel i, and no other"


@exercise(
    "3.3",
    expects="a number, the ratio you predict",
    right="you multiplied factors.",
)
def predict_ratio(attempt, ratio_56, ratio_110):
    """First over last gradient norm of plain-110, predicted from plain-56's and then measured."""
    guess = number(attempt, "the ratio")
    facts = (
        f"plain-56 measures {ratio_56:.3g}, plain-110 {ratio_110:.2g}, you predicted {guess:.2g}"
    )
    expect(guess > 0, f"A ratio of two norms is positive, got {guess:g}.")
    expect(guess >= 1, f"{facts}: below 1 would be a gradient that vanishes towards the input.", 1)
    expect(
        not 0.7 < guess / ratio_56 < 1.5,
        f"{facts}: with the same ratio, 54 more layers would change nothing.",
        1,
    )
    expect(
        not 1.5 <= guess / ratio_56 < 3,
        f"{facts}: that is about double, as if each layer *added* its share; layers multiply.",
        2,
    )
    away = max(guess / ratio_110, ratio_110 / guess)
    expect(away < 100, f"{facts}: further off than a factor of 100; which power did you take?", 2)
    return f"{facts}, within a factor of {away:.1f}: equal factors per layer multiply."


def unlabelled(digits, plain, residual):
    """Error curves without names -> {letter: (training errors, test errors)}, evaluation mode.

    Two of the chapter's own runs, and one small network trained here on 30 images.
    """
    few = replace(
        digits, train_images=digits.train_images[:30], train_labels=digits.train_labels[:30]
    )
    train.seed_everything(0)
    network = resnet.cifar_plain(8, in_channels=1)
    third = train.fit(network, few, 32, 0.02, batch_size=15, evaluate_every=8)
    runs = {"A": plain[56], "B": residual[20], "C": third}
    return {
        letter: tuple(
            [error for error in errors if not math.isnan(error)]
            for errors in (history.train_error_eval, history.test_error)
        )
        for letter, history in runs.items()
    }


@exercise(
    "3.4",
    expects='a dictionary like {"A": "overfitting", ...}',
    right="each from its two errors alone: overfitting fits the training images, degradation "
    "does not.",
)
def diagnose(attempt):
    """A dictionary: each panel's letter -> "overfitting", "degradation" or "healthy"."""
    truth = {"A": "degradation", "B": "healthy", "C": "overfitting"}
    expect(isinstance(attempt, dict), f"Expected a dictionary, got {type(attempt).__name__}.")
    missing = [letter for letter in truth if letter not in attempt]
    expect(not missing, f"Expected a word for each of A, B and C; {', '.join(missing)} is missing.")
    options = sorted(set(truth.values()))
    words = {letter: choice(attempt[letter], options, f"panel {letter}") for letter in truth}
    reason = {
        ("A", "overfitting"): "the error on the *training* images is high too: nothing is fitted, "
        "so nothing can be overfitted",
        ("A", "healthy"): "both errors stay high",
        ("B", "overfitting"): "training and test error are both low and close together",
        ("B", "degradation"): "the training error reaches zero",
        ("C", "degradation"): "the training error is zero, so optimization did all it was asked to",
        ("C", "healthy"): "the test error stays far above the training error",
    }
    for letter in truth:
        word = words[letter]
        expect(
            word == truth[letter],
            f'Panel {letter} is not "{word}": {reason.get((letter, word))}.',
            1 if letter == "A" else 2,
        )


@exercise(
    "3.5",
    expects="a function of network, images and labels",
    right="your function gives the error of fixed weights, the same each time, and leaves the "
    "network as it was, in both modes.",
)
def mended_error(attempt):
    """A function: (network, images, labels) -> error in evaluation mode, a fraction."""
    torch.manual_seed(random.getrandbits(30))
    network = resnet.cifar_plain(8, in_channels=1)
    images = torch.randn(200, 1, 8, 8) + torch.linspace(-2, 2, 200)[:, None, None, None]
    for _ in range(3):
        network(images)  # running statistics of these images
    labels = _labels_with_errors(network, images, wrong=60)
    for mode in (False, True):
        network.train(mode)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        got = attempt(network, images, labels)
        expect(got is not None, "The function returned None: does it end with `return`?")
        got = number(got, "the error")
        _judge_error(got, network, images, labels)
        after = network.state_dict()
        expect(
            all(torch.equal(before[name], after[name]) for name in before),
            "The running statistics of batch norm changed: a measurement must not train the "
            "network, and `torch.no_grad()` does not prevent it.",
            1,
        )
        expect(
            network.training == mode,
            f"The network came in {_mode(mode)} mode and left in {_mode(not mode)} mode: whoever "
            "goes on training has another network now.",
            2,
        )


def _mode(training):
    return "training" if training else "evaluation"


@torch.no_grad()
def _labels_with_errors(network, images, wrong):
    """Labels that the network in evaluation mode gets wrong exactly `wrong` times."""
    labels = network.eval()(images).argmax(1)
    labels[:wrong] = (labels[:wrong] + 1) % 10
    return labels


@torch.no_grad()
def _judge_error(got, network, images, labels):
    was_training = network.training
    fresh = resnet.cifar_plain(8, in_channels=1)
    fresh.load_state_dict(network.state_dict())
    loss = nn.functional.cross_entropy(fresh.eval()(images), labels).item()
    in_training = (fresh.train()(images).argmax(1) != labels).double().mean().item()
    network.train(was_training)
    wanted, count = 0.3, len(labels)
    known = [
        (1 - wanted, "that is the share it got *right*, the accuracy"),
        (wanted * 100, "the error is a fraction here, not a percentage"),
        (wanted * count, "that is the *number* of errors; divide by the number of images"),
        (loss, "that is the loss, not the share of wrong answers"),
        (
            in_training,
            "that is what the network answers in *training* mode, with the statistics "
            "of this batch",
        ),
    ]
    reason = next((why for value, why in known if abs(got - value) < 1e-4), None)
    reason = reason or "compare each image's most likely digit with its label, in evaluation mode"
    expect(abs(got - wanted) < 1e-4, f"Expected an error of 0.3, got {got:.4g}: {reason}.", 1)


QUIZ = [
    Question(
        "Plain-56 has a higher *test* error than plain-20. Does that alone show degradation?",
        [
            (
                "Yes: deeper is worse.",
                "Overfitting would look just the same. The *training* error decides.",
            ),
            (
                "No: one must look at the training error.",
                "Degradation means that the error on the training images themselves goes up.",
            ),
            (
                "No: one must look at the number of parameters.",
                "It plays no part in the definition.",
            ),
        ],
        right=1,
    ),
    Question(
        "Identity layers turn a trained plain-20 into a plain-56 with the same outputs. What follows?",
        [
            (
                "Plain-56 can represent a good solution; training does not find it in its budget.",
                "The two differ in who chose the weights, and in nothing else.",
            ),
            (
                "Gradient descent would find that solution with more parameters.",
                "More of the same made it worse. The construction says nothing about descent.",
            ),
            (
                "Plain-56 overfits.",
                "A solution with low training *and* test error is the opposite of a proof for that.",
            ),
        ],
        right=0,
    ),
    Question(
        "Which sentence do the gradients measured in this chapter support?",
        [
            (
                "They vanish in plain-56, and that causes degradation.",
                "At the start they grow towards the input, a thousandfold.",
            ),
            (
                "They explode in plain-56, and that causes degradation.",
                "The range falls within a few updates, and the network stays slow long after.",
            ),
            (
                "At the start they grow towards the input; soon after they do not; the cause is open.",
                "It claims what was measured, and no more.",
            ),
        ],
        right=2,
    ),
    Question(
        "A log says: training error 62 % (running), 77 % (evaluation mode). Which is wrong?",
        [
            (
                "The first: an error is measured with fixed weights.",
                "Both are measurements. They answer different questions.",
            ),
            (
                "The second: batch norm should be in training mode on training images.",
                "In evaluation mode the network answers as it would when used.",
            ),
            (
                "Neither: they measure different things, and a plot must name which.",
                "One runs over an epoch in training mode while the weights change, the other uses "
                "fixed weights and running statistics.",
            ),
        ],
        right=2,
    ),
]
