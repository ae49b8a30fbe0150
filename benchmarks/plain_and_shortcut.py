"""What makes 56 layers learn? Networks that differ in one thing, on digits, three seeds each.

    python benchmarks/plain_and_shortcut.py slope --json book/recorded/digits-slope.json
    python benchmarks/plain_and_shortcut.py adam --json book/recorded/digits-adam.json
    python benchmarks/plain_and_shortcut.py shortcut --json book/recorded/digits-shortcut.json

Chapters 03 and 04 read the logs. `slope`: plain networks with another slope of the ReLU, or with
the β of every batch norm started at 1 or 2. `adam`: plain networks under Adam, a sweep of rates.
`shortcut`: residual-56 with other shortcuts. All train 8 epochs with `train.fit` (SGD, lr 0.02,
momentum 0.9, weight decay 1e-4), Adam with the same batches.
"""

from dataclasses import dataclass
from functools import partial

import torch
from _common import Log, describe, fit_with, origin, parser, record_all
from torch import nn
from torch.nn import functional as F

from resnet_course import data, probe, resnet, train
from resnet_course.reproduce.run import kind_and_depth, now

# Shortcuts beside options A, B and C: (in_channels, out_channels, stride) -> module


def identity_and_norm(in_channels, out_channels, stride):
    """Option A with a batch norm behind it, in every block: nothing else is changed."""
    shortcut = resnet.option_a(in_channels, out_channels, stride)
    return nn.Sequential(shortcut, nn.BatchNorm2d(out_channels))


def convolution(in_channels, out_channels, stride):
    """Option C without its batch norm."""
    return resnet.conv1x1(in_channels, out_channels, stride)


SHORTCUTS = {
    **resnet.SHORTCUTS,
    "A + batch norm": identity_and_norm,
    "C from the identity, no batch norm": convolution,
    "C orthogonal, no batch norm": convolution,
}


@dataclass(frozen=True)
class Variant:
    """One network of the comparison. `beta` is where every batch norm's β starts."""

    network: str
    slope: float = 0.0
    beta: float = 0.0
    shortcut: str | None = None
    optimizer: str = "SGD"
    lr: float = 0.02

    def build(self):
        """With weights drawn from PyTorch's current seed."""
        kind, depth = kind_and_depth(self.network)
        n = resnet.blocks_per_stage(depth)
        block = resnet.PlainBlock if kind == "plain" else resnet.BasicBlock
        choose = SHORTCUTS[self.shortcut or "A"]
        model = resnet.CifarResNet(block, n, in_channels=1, shortcut=choose)
        resnet.leak_(model, self.slope)
        for name, module in model.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.bias, self.beta)
            if choose is convolution and name.endswith("downsample"):
                identity = "identity" in self.shortcut
                (nn.init.dirac_ if identity else nn.init.orthogonal_)(module.weight)
        return model


SLOPES = [Variant("plain-56", slope=slope) for slope in (0.0, 0.2, 0.5, 0.8)]
SLOPES += [Variant("plain-56", beta=beta) for beta in (1.0, 2.0)]
SLOPES += [Variant("plain-110", slope=slope) for slope in (0.0, 0.5, 0.8)]
SLOPES += [Variant("plain-110", beta=1.0), Variant("residual-110", shortcut="A")]
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
ADAM = [Variant(net, optimizer="Adam", lr=lr) for net in ("plain-56", "plain-20") for lr in RATES]
OTHERS = [Variant("residual-56", shortcut=shortcut) for shortcut in SHORTCUTS]
OTHERS += [Variant("residual-56", slope=0.5, shortcut=s) for s in ("A + batch norm", "C")]
GROUPS = {"slope": SLOPES, "adam": ADAM, "shortcut": OTHERS}


def measure_start(model, digits):
    """Before the first update -> {what: number}.

    `first_over_last`: gradient norm of the first convolution's weights over that of the last.
    `alike`: mean cosine between the features of two different images, in training mode.
    """
    images, labels = digits.train_images[:256], digits.train_labels[:256]
    norms = probe.gradient_norms(model, images, labels)
    norms = [norm for name, norm in norms.items() if "conv" in name]
    features = []
    hook = model.avgpool.register_forward_pre_hook(lambda m, x: features.append(x[0].flatten(1)))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model(images)
    hook.remove()
    model.load_state_dict(state)  # the running statistics are as before
    unit = F.normalize(features[0], dim=1)
    count = len(unit)
    alike = ((unit @ unit.T).sum() - count) / (count * (count - 1))
    return {"first_over_last": norms[0] / norms[-1], "alike": alike.item()}


def record(log, epochs, variant, seed):
    """Train one network -> the run as `recorded.Run` describes it."""
    started, digits = now(), log.digits
    train.seed_everything(seed)
    model = variant.build().to(digits.train_images.device)
    start, adam = measure_start(model, digits), variant.optimizer == "Adam"
    if adam:
        optimizer = torch.optim.Adam(model.parameters(), lr=variant.lr)
        history = fit_with(optimizer, model, digits, epochs)
    else:
        history = train.fit(model, digits, epochs, variant.lr)
    words = [variant.network, f"slope{variant.slope:g}", f"beta{variant.beta:g}"]
    words += [f"{variant.shortcut or ''}".replace(" ", "-"), variant.optimizer]
    words += [f"lr{variant.lr:g}"]
    config = {"weight_decay": 0.0 if adam else 1e-4, "slope": variant.slope}
    config |= {"beta": variant.beta, "optimizer": variant.optimizer}
    run = log.entry(
        variant, seed, history, started=started, words=words, config=config, final=start
    )
    show(run)
    return run


def show(run):
    final, config = run["final"], run["config"]
    print(
        f"{run['network']:12} slope {config['slope']:<3g} beta {config['beta']:g} "
        f"{run['shortcut'] or '-':34} {config['optimizer']} {config['lr']:<6g} seed {run['seed']}: "
        f"first/last {final['first_over_last']:9.3g}, alike {final['alike']:.3f}, error "
        f"{final['train_error']:6.1%} running {final['train_error_eval']:6.1%} eval "
        f"{final['test_error']:6.1%} test",
        flush=True,
    )


def main():
    p = parser(__doc__)
    p.add_argument("group", choices=list(GROUPS))
    options = p.parse_args()
    train.share_the_cpu()
    log = Log(__file__, options.group, data.digits(device=train.pick_device()))
    print(describe(origin(__file__, log.digits.train_images.device)))
    variants, epochs, seeds = GROUPS[options.group], 8, 3
    if options.quick:
        variants, epochs, seeds = variants[:1] + variants[-1:], 1, 1
    record_all(partial(record, log, epochs), variants, range(seeds), options.json)


if __name__ == "__main__":
    main()
