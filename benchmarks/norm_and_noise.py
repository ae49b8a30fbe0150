"""What does batch norm do, what the shortcut? Networks that differ in one thing.

    python benchmarks/norm_and_noise.py noise --json book/recorded/digits-bn-noise.json
    python benchmarks/norm_and_noise.py table --json book/recorded/digits-norm-table.json
    python benchmarks/norm_and_noise.py warmup --json book/recorded/digits-bn-warmup.json

Chapter 05 reads the logs of `noise` and `warmup`, chapter 07 that of `table`. All networks learn
digits, with `train.fit`; three seeds each, and eight for `warmup`.

`noise`: plain-8 and plain-20 for 4 epochs at several rates, with batch norm and without,
undisturbed and *shaken*: every channel gets a random offset and scale behind each batch norm (or
where it was), anew at every update, for the whole batch or for each image. `table`: 20 and 56
layers for 8 epochs, without norm, with and without shortcuts, and residual networks with norm at
three depths. A network without norm is a new one with norm, folded with the statistics of all
training images: it starts from the same function. `warmup`: residual-56 at rate 0.1, where some of
its parameters start with 22 updates at a tenth of it.
"""

import copy
from dataclasses import dataclass, replace
from functools import partial

import torch
from _common import Log, describe, fit_with, origin, parser, record_all
from torch import nn
from torch.nn import functional as F

from resnet_course import batch_norm, data, resnet, train
from resnet_course.reproduce.run import kind_and_depth, now


@dataclass(frozen=True)
class Variant:
    """One network of the comparison. `shaken` is None, "batch" or "image"."""

    network: str
    norm: bool
    lr: float
    epochs: int
    shaken: str | None = None
    warm: str = ""  # what is warmed up, of "conv", "norm" and "fc"

    def build(self, images):
        """With weights drawn from PyTorch's current seed."""
        kind, depth = kind_and_depth(self.network)
        builds = {"plain": resnet.cifar_plain, "residual": resnet.cifar_resnet}
        model = builds[kind](depth, in_channels=1).to(images.device)
        if not self.norm:
            model = folded(model, images)
        for layer in places_of_norm(model):
            if self.shaken:
                layer.register_forward_hook(SHAKE[self.shaken])
        return model


@torch.no_grad()
def folded(model, images):
    """The same function of these images, without batch norm."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # remember only this batch
    model.train()(images)
    model.eval()
    for module in list(model.modules()):
        for i in (1, 2):
            conv, bn = getattr(module, f"conv{i}", None), getattr(module, f"bn{i}", None)
            if conv is not None and bn is not None:
                setattr(module, f"conv{i}", batch_norm.fold(conv, bn))
                setattr(module, f"bn{i}", nn.Identity())
    return model


def places_of_norm(model):
    """Batch norm layers, and what stands in their places after folding."""
    return [
        module for name, module in model.named_modules() if name.split(".")[-1].startswith("bn")
    ]


def shake_batch(layer, inputs, output):
    """Offsets between -1/2 and 1/2, scales between 1 and 1.25, for each channel of the batch."""
    offset, scale = torch.rand(2, 1, output.shape[1], 1, 1, device=output.device)
    return output * (1 + scale / 4) + offset - 0.5 if layer.training else output


def shake_image(layer, inputs, output):
    """The same, drawn for each image by itself."""
    offset, scale = torch.rand(2, *output.shape[:2], 1, 1, device=output.device)
    return output * (1 + scale / 4) + offset - 0.5 if layer.training else output


SHAKE = {"batch": shake_batch, "image": shake_image}
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
NOISE = [
    Variant(f"plain-{depth}", norm, lr, 4, shaken)
    for depth, rates, kinds in (
        (8, RATES, (None, "batch", "image")),
        (20, RATES[:3], (None, "batch")),
    )
    for norm in (True, False)
    for shaken in kinds
    for lr in rates
]
TABLE = [Variant(f"residual-{depth}", True, 0.02, 8) for depth in (8, 20, 56)]
TABLE += [
    Variant(f"{kind}-{depth}", False, lr, 8)
    for depth, rates in ((20, (0.01, 0.03)), (56, (0.003, 0.01)))
    for kind in ("plain", "residual")
    for lr in rates
]
WARM = ("", "conv", "norm", "fc", "conv norm", "conv norm fc")
WARMUP = [Variant("residual-56", True, 0.1, 8, warm=warm) for warm in WARM]
GROUPS = {"noise": NOISE, "table": TABLE, "warmup": WARMUP}
WARM_UPDATES = 22


def parameters_by_kind(model):
    """{"conv", "norm", "fc": list of parameters}"""
    kinds = {"conv": nn.Conv2d, "norm": nn.BatchNorm2d, "fc": nn.Linear}
    return {
        name: [p for m in model.modules() if isinstance(m, kind) for p in m.parameters()]
        for name, kind in kinds.items()
    }


def fit_warming(model, digits, variant):
    """`train.fit`, with a warm-up for some kinds of parameters alone -> `train.History`, numbers.

    The numbers are about the first convolution: its norm before training, after the 22 updates and
    at the end, and the largest step in them, as a share of its norm.
    """
    kinds = parameters_by_kind(model)
    groups = [{"params": kinds[kind], "warm": kind in variant.warm} for kind in kinds]
    optimizer = torch.optim.SGD(groups, lr=variant.lr, momentum=0.9, weight_decay=1e-4)
    first = model.conv1.weight
    norms, steps = [first.norm().item()], []

    def step(done):
        early = train.warmup(WARM_UPDATES)(done)
        for group in optimizer.param_groups:
            group["lr"] = variant.lr * (early if group["warm"] else 1.0)
        before = first.detach().clone()
        optimizer.step()
        steps.append(((first - before).norm() / before.norm()).item())
        norms.append(first.norm().item())

    history = fit_with(optimizer, model, digits, variant.epochs, step)
    early = {"conv1_norm_start": norms[0], "conv1_norm_22": norms[: WARM_UPDATES + 1][-1]}
    early |= {"conv1_norm_end": norms[-1], "conv1_step_22": max(steps[:WARM_UPDATES])}
    return history, early


@torch.no_grad()
def measure_logits(model, images, labels, wanted=10.0):
    """Training images, evaluation mode -> how large the logits are, and the loss at one size.

    `logit_norm`: mean Euclidean norm of an image's logits, their mean subtracted. `loss_at_10`:
    cross-entropy after all logits are multiplied by one factor that makes this norm 10.
    """
    logits = model.eval()(images).float()
    logits = logits - logits.mean(1, keepdim=True)
    norm = logits.norm(dim=1).mean().item()
    same = F.cross_entropy(logits * (wanted / norm), labels).item()
    return {"logit_norm": norm, "loss_at_10": same}


def record(log, variant, seed):
    """Train one network -> the run as `recorded.Run` describes it."""
    started, digits = now(), log.digits
    train.seed_everything(seed)
    model = variant.build(digits.train_images)
    if log.group == "warmup":
        history, more = fit_warming(model, digits, variant)
    else:
        epochs, more = variant.epochs, {}
        history = train.fit(model, digits, epochs, variant.lr, evaluate_every=epochs)
    words = [variant.network, "norm" if variant.norm else "bare"]
    words += [f"shaken-{variant.shaken}" if variant.shaken else "", f"lr{variant.lr:g}"]
    words += [f"warm-{variant.warm.replace(' ', '-')}" if variant.warm else ""]
    config = {"warmup": WARM_UPDATES if variant.warm else 0, "norm": variant.norm}
    config |= {"shaken": variant.shaken, "warm": variant.warm}
    final = measure_logits(model, digits.train_images, digits.train_labels) | more
    run = log.entry(
        variant, seed, history, started=started, words=words, config=config, final=final
    )
    show(run)
    return run


def show(run):
    final, config = run["final"], run["config"]
    print(
        f"{run['network']:12} {'norm' if config['norm'] else 'bare'} "
        f"{config['shaken'] or config['warm'] or '-':6} lr {config['lr']:<5g} seed {run['seed']}: "
        f"loss {final['train_loss']:6.3f}, error {final['train_error']:6.1%} running "
        f"{final['train_error_eval']:6.1%} eval, logits {final['logit_norm']:8.3g}, loss at 10 "
        f"{final['loss_at_10']:.4f}",
        flush=True,
    )


def main():
    p = parser(__doc__)
    p.add_argument("group", choices=list(GROUPS))
    p.add_argument("--seeds", type=int, nargs="+", help="usually 0, 1, 2; warmup has eight")
    options = p.parse_args()
    train.share_the_cpu()
    log = Log(__file__, options.group, data.digits(device=train.pick_device()))
    print(describe(origin(__file__, log.digits.train_images.device)))
    variants = GROUPS[options.group]
    seeds = options.seeds or range(8 if options.group == "warmup" else 3)
    if options.quick:
        variants = [replace(variant, epochs=1) for variant in (variants[0], variants[-1])]
        seeds = [0]
    record_all(partial(record, log), variants, seeds, options.json)


if __name__ == "__main__":
    main()
