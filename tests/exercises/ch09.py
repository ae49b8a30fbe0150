"""Answers to the exercises of chapter 09."""

import copy
import itertools
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
        self.eval()

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


def identity_or_removed(model, k):
    """The shortcut is in training mode: nothing in it asks for the mode."""
    model = copy.deepcopy(model).eval()
    conv = blocks_of(model)[k - 1].conv1
    same = conv.stride[0] == 1 and conv.in_channels == conv.out_channels
    return put(model, k, nn.Identity() if same else shortcut_of(blocks_of(model)[k - 1]))


def stage_by_stage(model, k, first=1):
    """The k-th block of every stage."""
    model = copy.deepcopy(model).eval()
    for layers in (model.layer1, model.layer2, model.layer3):
        if 0 <= k - first < len(layers):
            layers[k - first] = shortcut_of(layers[k - first])
    return model


def mode_kept(model, k):
    return removed(model, k).train(model.training)


def mode_changed(model, k):
    return removed(model.eval(), k)


def by_option_b(model, k):
    model = copy.deepcopy(model).eval()
    conv = blocks_of(model)[k - 1].conv1
    return put(model, k, resnet.option_b(conv.in_channels, conv.out_channels, conv.stride[0]))


def with_stride(model, k, stride):
    model = copy.deepcopy(model).eval()
    conv = blocks_of(model)[k - 1].conv1
    return put(model, k, resnet.option_a(conv.in_channels, conv.out_channels, stride))


def two_behind(model, k):
    return removed(model, (k + 1) % len(blocks_of(model)) + 1)


def own_shortcut(model, k):
    model = copy.deepcopy(model).eval()
    return put(model, k, blocks_of(model)[k - 1].downsample)


def three_a_stage(model, k):
    model = copy.deepcopy(model).eval()
    layers = getattr(model, f"layer{(k - 1) // 3 + 1}")
    layers[(k - 1) % 3] = shortcut_of(layers[(k - 1) % 3])
    return model


def all_from(model, k):
    for number in range(k, len(blocks_of(model)) + 1):
        model = removed(model, number)
    return model


def shift_left(model, k):
    model = copy.deepcopy(model).eval()
    nn.init.zeros_(blocks_of(model)[k - 1].conv2.weight)
    return model


def norm_left(model, k):
    model = copy.deepcopy(model).eval()
    block = blocks_of(model)[k - 1]
    return put(model, k, nn.Sequential(shortcut_of(block), block.bn2))


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


def by_factorials(n, k, r):
    return math.factorial(n - r) // (math.factorial(k) * math.factorial(n - r - k))


def lengths(factors):
    parts = [1.0]
    for f in factors:
        parts = [a + f * b for a, b in zip([*parts, 0.0], [0.0, *parts], strict=True)]
    return parts


def in_one_list(factors):
    """From the front: what has just come in goes through the same block again."""
    parts = [1.0] + [0.0] * len(factors)
    for f in factors:
        for k in range(len(factors)):
            parts[k + 1] += f * parts[k]
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


def for_convolutions(weight, direction):
    ratio = weight.square().sum((1, 2, 3), True) / direction.square().sum((1, 2, 3), True)
    return direction * ratio.sqrt()


def four_axes(weight, direction):
    ratio = weight.flatten(1).norm(dim=1) / direction.flatten(1).norm(dim=1)
    return direction * ratio.view(-1, 1, 1, 1)


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


def input_weighted(x, branch, shortcut, survival, training):
    if training:
        return depth(x, branch, shortcut, survival, True)
    return shortcut(x) + branch(survival * x)


def branch_of_shortcut(x, branch, shortcut, survival, training):
    s = shortcut(x)
    return depth(s, branch, lambda value: value, survival, training)


def exchanged(x, branch, shortcut, survival, training):
    return depth(x, branch, shortcut, survival, not training)


def hurried_in_training(x, branch, shortcut, survival, training):
    if training and torch.rand(()) > survival:
        return x
    return shortcut(x) + branch(x) * (1 if training else survival)


def each_number(x, branch, shortcut, survival, training):
    f = branch(x)
    keep = (torch.rand_like(f) < survival).float() if training else survival
    return shortcut(x) + keep * f


def by_randn(x, branch, shortcut, survival, training):
    keep = (torch.randn(()) < survival).float() if training else survival
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


def different_paths(factors):
    every = (set(itertools.combinations(factors, k)) for k in range(len(factors) + 1))
    return [sum(map(math.prod, paths)) for paths in every]


def onto_the_shortcut(x, branch, shortcut, survival, training):
    out = shortcut(x)
    if not training:
        out += survival * branch(x)
    elif torch.rand(()) < survival:
        out += branch(x)
    return out


BANKS = {
    "remove_block": Bank(
        right=[removed, Past, silenced_or_removed, identity_or_removed],
        wrong=[
            (in_place, "replace it in a deep copy"),
            (identity_always, "leaves its shortcut of option A"),
            (off_by_one, "the first block has the number 1"),
            (the_one_before, "block in front of it"),
            (all_up_to, "those in front of it are gone"),
            (training_again, "came back in training mode"),
            (only_half, "second convolution is gone"),
            (zeros, "the block gives zeros"),
            (silenced, "the block gives zeros"),
            (lambda m, k: copy.deepcopy(m).eval(), "nothing was removed"),
            (other_weights, "where the gap is largest"),
            (stage_by_stage, "a block of every stage"),
            (mode_kept, "came back in training mode"),
            (mode_changed, "came in training mode and is in evaluation mode"),
            (by_option_b, "weights of its own"),
            (two_behind, "another block than this one"),
            (lambda m, k: with_stride(m, k, 1), "does not have the stride"),
            (lambda m, k: with_stride(m, k, 2), "has a stride of 2"),
            (own_shortcut, "plain blocks have no shortcut"),
            (three_a_stage, "a place that is not there"),
            (all_from, "those behind it are gone"),
            (lambda m, k: removed(m, len(blocks_of(m)) + 1 - k), "counted from the output"),
            (shift_left, "still adds its β"),
            (norm_left, "is still there"),
            (lambda m, k: removed(m, k) and m, "and not a copy of it"),
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
            (lambda n, k, r: math.comb(n, k) / 2**r, "for *all* lengths together"),
            (lambda n, k, r: (n - r) ** k, "once at most"),
            (lambda n, k, r: -1, "for the paths of that length, got"),
            (lambda n, k, r: math.comb(n - r, max(k - r, 0)), "length was shortened"),
            (lambda n, k, r: math.comb(n, min(k + r, n)), "added to the path's length"),
            (lambda n, k, r: math.comb(n - r + 1, k), "one block too few"),
            (lambda n, k, r: math.comb(max(n - r - 1, 0), k), "one block too many"),
            (lambda n, k, r: math.comb(r, k), "lie in the *removed* blocks"),
            (lambda n, k, r: math.comb(k, n - r), "have changed places"),
            (lambda n, k, r: sum(math.comb(n - r, i) for i in range(k + 1)), "shorter paths were"),
            (lambda n, k, r: math.comb(n - r, k) / 2**n, "that is a share"),
            (lambda n, k, r: math.comb(n - r, k + 1), "one block more"),
            (lambda n, k, r: math.comb(n, k) - math.comb(n - r, k), "that are *lost*"),
            (lambda n, k, r: math.comb(max(9 - r, 0), k), "for 9 blocks"),
            (lambda n, k, r: math.comb(n - r, k - r), "a number of the choice is negative"),
            (by_factorials, "the number of paths is 0"),
            (lambda n, k, r: max(1, math.comb(n - r, k)), "so many blocks are not left."),
            (lambda n, k, r: math.comb(n - r, k) if k else 0, "there always"),
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
            (lambda f: [2 * p for p in lengths(f)], "too large by one"),
            (
                lambda f: [p + k for k, p in enumerate(lengths(f))],
                "of the list for four blocks, where",
            ),
            (lambda f: sorted(lengths(f)), "put in another order"),
            (in_one_list, "a block is used again"),
            (
                lambda f: [p * math.factorial(k) for k, p in enumerate(lengths(f))],
                "in every order of its blocks",
            ),
            (lambda f: [1, sum(f), math.prod(f)], "only lengths 0, 1 and all"),
            (lambda f: lengths([-x for x in f]), "the other sign"),
            (lambda f: lengths(sorted(set(f))), "what is equal was counted once"),
            (lambda f: [1, 5, 6], "the list of the example"),
            (lambda f: [0.0] * (len(f) + 1), "they are all 0"),
            (lambda f: [p / sum(lengths(f)) for p in lengths(f)], "divided by the sum of all"),
            (lambda f: [*lengths(f[:-1]), 0], "the last block is missing"),
            (lambda f: [[p] for p in lengths(f)], "lists inside the list"),
            (lambda f: list(itertools.accumulate(f, initial=1.0)), "factors were added"),
            (lambda f: [1.0] * (len(f) + 5), "lengths of paths, 0 among them"),
            (lambda f: sum(lengths(f)), "That is one number"),
            (lambda f: "text", "Expected a list"),
            (lambda f: None, "end with `return`"),
            (
                lambda f: [sum(f) ** k for k in range(len(f) + 1)],
                "powers of the sum of all factors",
            ),
            (different_paths, "what is equal was counted once"),
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
            (rotated, "the lengths are right, but filters no longer"),
            (lambda w, d: d * length(w).max() / length(d), "or the opposite way"),
            (lambda w, d: d + w, "of the direction for a convolution, where the gap"),
            (changes_the_direction, "changed its input in place"),
            (lambda w, d: w.clone(), "that is the weight itself"),
            (lambda w, d: w + normalized(w, d), "the weight was added"),
            (lambda w, d: normalized(w, d.abs()), "signs were lost"),
            (lambda w, d: normalized(w, d - d.mean()), "the mean was taken off"),
            (lambda w, d: d * (length(w) / length(d)).sqrt(), "the root of the ratio"),
            (lambda w, d: d * length(w) / length(d).mean(), "by the mean length"),
            (lambda w, d: d * (length(w) / length(d)).clamp(min=1), "too short were changed"),
            (lambda w, d: d * (length(w) / length(d))[0], "the ratio of the first"),
            (lambda w, d: normalized(w, d).flatten(), "came back flat"),
            (lambda w, d: (length(w) / length(d)).flatten(), "one number for each filter"),
            (
                lambda w, d: d * w.norm(dim=1, keepdim=True) / d.norm(dim=1, keepdim=True),
                "over axis 1 alone",
            ),
            (
                lambda w, d: (
                    d * w.norm(dim=(-2, -1), keepdim=True) / d.norm(dim=(-2, -1), keepdim=True)
                ),
                "each kernel has its own",
            ),
            (for_convolutions, "its weight has two axes"),
            (four_axes, "more axes than the weight"),
            (lambda w, d: None, "end with `return`"),
        ],
    ),
    "mend_depth": Bank(
        right=[depth, depth_by_mask, depth_by_random, depth_with_if],
        wrong=[
            (depth_variant(evaluation=lambda f, s, p: s + f), "F came in full"),
            (depth_variant(evaluation=lambda f, s, p: s + (1 - p) * f), "in which it was *gone*"),
            (depth_variant(evaluation=lambda f, s, p: s), "F is missing"),
            (
                depth_variant(evaluation=lambda f, s, p: p * (s + f)),
                "the shortcut was weighted too",
            ),
            (depth_variant(evaluation=lambda f, s, p: s + f / p), "divided by the share instead"),
            (depth_variant(evaluation=lambda f, s, p: s - 5), "where the gap is largest"),
            (depth_variant(evaluation=lambda f, s, p: s + p**0.5 * f), "the root of the share"),
            (depth_variant(evaluation=lambda f, s, p: s + f / 2), "with one half"),
            (depth_variant(evaluation=lambda f, s, p: p * s + f), "it is F that was sometimes"),
            (
                depth_variant(evaluation=lambda f, s, p: (s + p * f).relu()),
                "in evaluation: a ReLU is in it",
            ),
            (input_weighted, "the *input* of F"),
            (branch_of_shortcut, "F got `shortcut(x)`"),
            (
                depth_variant(evaluation=lambda f, s, p: s + f, there=lambda f, s, p: s + f / p),
                "The averages are equal",
            ),
            (depth_variant(there=lambda f, s, p: f), "the shortcut is missing in some steps"),
            (exchanged, "have changed places"),
            (hurried_in_training, "x itself came back"),
            (each_number, "each number was drawn by itself"),
            (by_randn, "`torch.randn` was asked"),
            (depth_variant(chance=lambda p: p * p), "drawn twice"),
            (draws_in_evaluation, "changes from call to call"),
            (depth_variant(gone=lambda f, s, p: 0 * s), "dropped together with F"),
            (depth_variant(there=lambda f, s, p: s + f / p), "*and* weighted afterwards"),
            (
                depth_variant(chance=lambda p: 1.1, there=lambda f, s, p: s + p * f),
                "F is weighted in training",
            ),
            (depth_variant(chance=lambda p: 1 - p), "*gone* with the probability"),
            (depth_variant(chance=lambda p: 1.1), "always or never"),
            (depth_variant(chance=lambda p: -1.0), "always or never"),
            (depth_variant(chance=lambda p: 0.5), "half of the draws"),
            (each_image, "images of one batch"),
            (lambda x, branch, shortcut, p, training: None, "end with `return`"),
            (onto_the_shortcut, "changed that in place"),
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
            ({"A": "proved"}, "of A to F; B, C, D, E and F are missing"),
            ({"proved": "A", "measured": "BE"}, "not vice versa"),
            (list(RIGHT_WORDS.values()), "Expected a dictionary"),
        ],
    ),
}
