"""Answers to the exercises of chapter 09."""

import copy
import math

import torch
from bank import Bank
from torch import nn

from resnet_course import resnet


def blocks_of(model):
    return [b for name in ("layer1", "layer2", "layer3") for b in getattr(model, name)]


def shortcut_of(block):
    conv = block.conv1
    return resnet.option_a(conv.in_channels, conv.out_channels, conv.stride[0])


def put(model, k, module):
    """In place: block k, counted from 1, becomes this module."""
    for name in ("layer1", "layer2", "layer3"):
        layers = getattr(model, name)
        if k <= len(layers):
            layers[k - 1] = module
            return model
        k -= len(layers)
    return model


def removed(model, k):
    model = copy.deepcopy(model).eval()
    return put(model, k, shortcut_of(blocks_of(model)[k - 1]))


class Past(nn.Module):
    """Another way: a wrapper that runs every block but one."""

    def __init__(self, model, k):
        super().__init__()
        self.model, self.k = copy.deepcopy(model), k

    def forward(self, x):
        m = self.model
        x = m.relu(m.bn1(m.conv1(x)))
        for number, block in enumerate(blocks_of(m), 1):
            x = shortcut_of(block)(x) if number == self.k else block(x)
        return m.fc(x.mean((2, 3)))


def silenced(model, k):
    """Right for residual blocks alone: gamma and beta of the last batch norm are 0."""
    model = copy.deepcopy(model).eval()
    block = blocks_of(model)[k - 1]
    nn.init.zeros_(block.bn2.weight)
    nn.init.zeros_(block.bn2.bias)
    return model


def silenced_or_removed(model, k):
    residual = isinstance(blocks_of(model)[0], resnet.BasicBlock)
    return silenced(model, k) if residual else removed(model, k)


def in_place(model, k):
    return put(model, k, shortcut_of(blocks_of(model)[k - 1]))


def identity_always(model, k):
    return put(copy.deepcopy(model).eval(), k, nn.Identity())


def off_by_one(model, k):
    return removed(model, min(k + 1, len(blocks_of(model))))


def the_one_before(model, k):
    return removed(model, max(k - 1, 1)) if k > 1 else removed(model, 1)


def all_up_to(model, k):
    for number in range(1, k + 1):
        model = removed(model, number)
    return model


def training_again(model, k):
    return removed(model, k).train()


def only_half(model, k):
    """The second convolution alone is gone."""
    model = copy.deepcopy(model).eval()
    block = blocks_of(model)[k - 1]
    block.conv2, block.bn2 = nn.Identity(), nn.Identity()
    return model


class Zeros(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.around = shortcut_of(block)

    def forward(self, x):
        return torch.zeros_like(self.around(x))


def zeros(model, k):
    model = copy.deepcopy(model).eval()
    return put(model, k, Zeros(blocks_of(model)[k - 1]))


def other_weights(model, k):
    model = removed(model, k)
    nn.init.normal_(model.fc.weight)
    return model


def lengths(factors):
    parts = [1.0]
    for f in factors:
        parts = [a + f * b for a, b in zip([*parts, 0.0], [0.0, *parts], strict=True)]
    return parts


def lengths_backwards(factors):
    return lengths(factors[::-1])


def lengths_by_listing(factors):
    sums = [0.0] * (len(factors) + 1)
    for path in range(2 ** len(factors)):
        taken = [f for i, f in enumerate(factors) if path >> i & 1]
        sums[len(taken)] += math.prod(taken)
    return sums


def lengths_as_tensor(factors):
    return torch.tensor(lengths(factors))


def first_paths(factors):
    return [math.prod(factors[:k]) for k in range(len(factors) + 1)]


def with_the_mean(factors):
    n, mean = len(factors), sum(factors) / len(factors)
    return [math.comb(n, k) * mean**k for k in range(n + 1)]


def sums_of_powers(factors):
    return [1.0] + [sum(f**k for f in factors) for k in range(1, len(factors) + 1)]


def means(factors):
    n = len(factors)
    return [w / math.comb(n, k) for k, w in enumerate(lengths(factors))]


def cumulated(factors):
    parts = lengths(factors)
    return [sum(parts[: k + 1]) for k in range(len(parts))]


def length(w):
    return w.flatten(1).norm(dim=1).view(-1, *[1] * (w.dim() - 1))


def normalized(weight, direction):
    return direction * length(weight) / length(direction)


def by_loop(weight, direction):
    return torch.stack([d * w.norm() / d.norm() for w, d in zip(weight, direction, strict=True)])


def by_einsum(weight, direction):
    ratio = (weight.square().flatten(1).sum(1) / direction.square().flatten(1).sum(1)).sqrt()
    return torch.einsum("o,o...->o...", ratio, direction)


def as_doubles(weight, direction):
    return normalized(weight.double(), direction.double())


def inputs(weight, direction):
    dims = (0, *range(2, weight.dim()))
    return direction * (weight.square().sum(dims, True) / direction.square().sum(dims, True)).sqrt()


def changes_the_direction(weight, direction):
    return direction.mul_(length(weight) / length(direction))


def rotated(weight, direction):
    other = torch.randn_like(direction)
    return other * length(weight) / length(other)


def rows(w):
    return tuple(range(1, w.dim()))


def depth(x, branch, shortcut, survival, training):
    if not training:
        return shortcut(x) + survival * branch(x)
    if torch.rand(()) < survival:
        return shortcut(x) + branch(x)
    return shortcut(x)


def depth_by_mask(x, branch, shortcut, survival, training):
    keep = torch.bernoulli(torch.tensor(survival)) if training else survival
    return shortcut(x) + keep * branch(x)


def depth_by_random(x, branch, shortcut, survival, training):
    import random

    keep = float(random.random() < survival) if training else survival
    return keep * branch(x) + shortcut(x)


def depth_with_if(x, branch, shortcut, survival, training):
    past = shortcut(x)
    if training and torch.rand(1).item() >= survival:
        return past
    return past + branch(x) * (1 if training else survival)


def depth_variant(**change):
    """`depth` with one thing wrong."""

    def wrong(x, branch, shortcut, survival, training):
        f, s = branch(x), shortcut(x)
        if not training:
            return change.get("evaluation", lambda f, s, p: s + p * f)(f, s, survival)
        there = torch.rand(()) < change.get("chance", lambda p: p)(survival)
        return (
            change.get("there", lambda f, s, p: s + f)(f, s, survival)
            if there
            else change.get("gone", lambda f, s, p: s)(f, s, survival)
        )

    return wrong


def each_image(x, branch, shortcut, survival, training):
    keep = (torch.rand(len(x), 1) < survival).float() if training else survival
    return shortcut(x) + keep * branch(x)


def draws_in_evaluation(x, branch, shortcut, survival, training):
    return depth(x, branch, shortcut, survival, True)


RIGHT_WORDS = {
    "A": "proved",
    "B": "measured",
    "C": "contested",
    "D": "fell",
    "E": "measured",
    "F": "contested",
}

BANKS = {
    "remove_block": Bank(
        right=[removed, Past, silenced_or_removed, lambda m, k: Past(m, k).eval()],
        wrong=[
            (in_place, "changed its input in place"),
            (identity_always, "leaves its shortcut of option A"),
            (off_by_one, "count from 1"),
            (the_one_before, "block in front of it"),
            (all_up_to, "those in front of it are gone"),
            (training_again, "came back in training mode"),
            (only_half, "second convolution is gone"),
            (zeros, "the block gives zeros"),
            (silenced, "the block gives zeros"),
            (lambda m, k: copy.deepcopy(m).eval(), "nothing was removed"),
            (other_weights, "logits are those of another network"),
            (lambda m, k: blocks_of(m), "Expected a network"),
            (lambda m, k: None, "end with `return`"),
        ],
    ),
    "count_paths": Bank(
        right=[
            lambda n, k, r: math.comb(n - r, k),
            lambda n, k, r: torch.tensor(math.comb(n - r, k)),
            lambda n, k, r: math.perm(n - r, k) / math.factorial(k),
            lambda n, k, r: sum(bin(p).count("1") == k for p in range(2 ** (n - r))),
        ],
        wrong=[
            (lambda n, k, r: math.comb(n, k), "removed blocks still in"),
            (lambda n, k, r: 2 ** (n - r), "of any length"),
            (lambda n, k, r: 2**n, "paths of the whole network"),
            (lambda n, k, r: math.perm(n - r, k), "order of the blocks"),
            (lambda n, k, r: math.comb(n, k) - r, "cuts many paths, not one"),
            (lambda n, k, r: math.comb(n, k) - math.comb(r, k), "need not lie in"),
            (lambda n, k, r: math.comb(n, k) * (n - r) / n, "thin out in proportion"),
            (lambda n, k, r: math.comb(n, k) / 2**r, "left of *all* lengths"),
            (lambda n, k, r: (n - r) ** k, "once at most"),
            (lambda n, k, r: -1, "choose the blocks to go through"),
            (lambda n, k, r: "many", "Expected a number"),
            (lambda n, k, r: None, "end with `return`"),
        ],
    ),
    "by_length": Bank(
        right=[lengths, lengths_backwards, lengths_by_listing, lengths_as_tensor],
        wrong=[
            (lambda f: lengths(f)[1:], "around every block, is missing"),
            (lambda f: lengths(f)[::-1], "begins with the longest"),
            (lambda f: lengths(f)[:-1], "through all blocks, is missing"),
            (lambda f: [math.comb(len(f), k) for k in range(len(f) + 1)], "*numbers* of paths"),
            (means, "*mean* of the paths"),
            (with_the_mean, "taken for the mean one"),
            (first_paths, "only one path of each length"),
            (sums_of_powers, "k *different* blocks"),
            (lambda f: [sum(lengths(f))], "all paths together"),
            (cumulated, "shorter paths were added"),
            (lambda f: [abs(p) for p in lengths(f)], "signs were lost"),
            (lambda f: [2 * p for p in lengths(f)], "moves one place on"),
            (lambda f: [1.0] * (len(f) + 5), "lengths, 0 among them"),
            (lambda f: sum(lengths(f)), "Expected a list"),
            (lambda f: None, "end with `return`"),
        ],
    ),
    "normalize_filters": Bank(
        right=[normalized, by_loop, by_einsum, as_doubles],
        wrong=[
            (lambda w, d: d.clone(), "came back as it was"),
            (lambda w, d: d / length(d), "every filter has length 1"),
            (lambda w, d: d * length(w), "not divided by its own"),
            (lambda w, d: d * w.norm() / d.norm(), "each *filter* must have its own"),
            (lambda w, d: d * length(d) / length(w), "upside down"),
            (inputs, "each *input* channel"),
            (lambda w, d: d * (length(w) / length(d)) ** 2, "take the root"),
            (
                lambda w, d: d * w.abs().sum(rows(w), True) / d.abs().sum(rows(d), True),
                "sums of absolute values",
            ),
            (
                lambda w, d: d * w.abs().amax(rows(w), True) / d.abs().amax(rows(d), True),
                "largest entries were made equal",
            ),
            (lambda w, d: d.sign() * w.abs(), "every single number was rescaled"),
            (rotated, "no longer point where they did"),
            (changes_the_direction, "changed its input in place"),
            (lambda w, d: w.clone(), "that is the weight itself"),
            (lambda w, d: 7 * d, "do not have the lengths"),
            (lambda w, d: None, "end with `return`"),
        ],
    ),
    "mend_depth": Bank(
        right=[depth, depth_by_mask, depth_by_random, depth_with_if],
        wrong=[
            (depth_variant(evaluation=lambda f, s, p: s + f), "F came in full"),
            (depth_variant(evaluation=lambda f, s, p: s + (1 - p) * f), "in which it was *gone*"),
            (depth_variant(evaluation=lambda f, s, p: s), "F is missing"),
            (depth_variant(evaluation=lambda f, s, p: p * (s + f)), "the shortcut was weighted"),
            (depth_variant(evaluation=lambda f, s, p: s + f / p), "divided by the share instead"),
            (depth_variant(evaluation=lambda f, s, p: s - 5), "plus the share times F"),
            (draws_in_evaluation, "changes from call to call"),
            (depth_variant(gone=lambda f, s, p: 0 * s), "dropped together with F"),
            (depth_variant(there=lambda f, s, p: s + f / p), "*and* weighted afterwards"),
            (
                depth_variant(chance=lambda p: 1.1, there=lambda f, s, p: s + p * f),
                "F is weighted in every step",
            ),
            (depth_variant(chance=lambda p: 1 - p), "*gone* with the probability"),
            (depth_variant(chance=lambda p: 1.1), "never gone"),
            (depth_variant(chance=lambda p: -1.0), "F was never there"),
            (depth_variant(chance=lambda p: 0.5), "half of the draws"),
            (each_image, "images of one batch"),
            (lambda x, branch, shortcut, p, training: None, "end with `return`"),
        ],
    ),
    "sort_claims": Bank(
        right=[
            RIGHT_WORDS,
            {letter: word.upper() for letter, word in RIGHT_WORDS.items()},
            {**RIGHT_WORDS, "G": "?"},
            dict(reversed(RIGHT_WORDS.items())),
        ],
        wrong=[
            ({**RIGHT_WORDS, "A": "measured"}, "no measurement is needed"),
            ({**RIGHT_WORDS, "B": "proved"}, "no theorem says so"),
            ({**RIGHT_WORDS, "B": "contested"}, "only how to read them"),
            ({**RIGHT_WORDS, "C": "measured"}, "one of two readings"),
            ({**RIGHT_WORDS, "C": "proved"}, "*act* as an ensemble"),
            ({**RIGHT_WORDS, "D": "proved"}, "*growing* gradients"),
            ({**RIGHT_WORDS, "D": "contested"}, "already measured against it"),
            ({**RIGHT_WORDS, "E": "proved"}, "not derived"),
            ({**RIGHT_WORDS, "F": "measured"}, "landscape alone was never made"),
            ({**RIGHT_WORDS, "F": "proved"}, "nothing shows that they cause it"),
            ({**RIGHT_WORDS, "F": "true"}, 'Expected one of "proved"'),
            ({"A": "proved"}, "is missing"),
            (list(RIGHT_WORDS.values()), "Expected a dictionary"),
        ],
    ),
}
