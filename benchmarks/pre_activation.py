"""Blocks as in the paper and with pre-activation, by depth, on the digits.

    python benchmarks/pre_activation.py --json book/recorded/preactivation-digits.json

Same data, batches, rate (0.02) and budget (5 epochs), two seeds. Errors are in percent: the running
training error of every epoch, and the test error at the end.
"""

import torch
from _common import describe, origin, parser, save
from torch import nn

from resnet_course import data, resnet, train


class PreActBlock(nn.Module):
    """Batch norm and ReLU in front of each convolution (https://arxiv.org/abs/1603.05027)."""

    expansion = 1

    def __init__(self, in_channels, channels, stride=1, shortcut=resnet.option_b):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = resnet.conv3x3(in_channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = resnet.conv3x3(channels, channels)
        self.relu = nn.ReLU()
        self.downsample = shortcut(in_channels, channels, stride)

    def forward(self, x):
        out = self.conv1(self.relu(self.bn1(x)))
        out = self.conv2(self.relu(self.bn2(out)))
        return out + self.downsample(x)


class PreActResNet(resnet.CifarResNet):
    """The 6n+2 network of such blocks: no batch norm behind `conv1`, one behind the last block."""

    def __init__(self, n, in_channels=1):
        super().__init__(PreActBlock, n, 10, in_channels, resnet.option_a)
        self.bn1 = nn.BatchNorm2d(64)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        x = self.avgpool(self.relu(self.bn1(x)))
        return self.fc(torch.flatten(x, 1))


def build(kind, depth):
    if kind == "pre-activation":
        return PreActResNet(resnet.blocks_per_stage(depth))
    return resnet.cifar_resnet(depth, in_channels=1)


def main():
    options = parser(__doc__).parse_args()
    depths, seeds, epochs = ((8,), 1, 1) if options.quick else ((20, 56), 2, 5)
    digits, record = data.digits(), origin(__file__)
    print(describe(record))
    record |= {"data": "digits", "lr": 0.02, "epochs": epochs, "runs": []}
    for depth in depths:
        for seed in range(seeds):
            for kind in ("residual", "pre-activation"):
                train.seed_everything(seed)
                history = train.fit(
                    build(kind, depth), digits, epochs, 0.02, evaluate_every=epochs, seed=0
                )
                run = {
                    "kind": kind,
                    "depth": depth,
                    "seed": seed,
                    "train_error": [100 * error for error in history.train_error],
                    "train_loss": history.train_loss,
                    "test_error": 100 * history.test_error[-1],
                }
                record["runs"].append(run)
                ends = ", ".join(f"{error:.1f}" for error in run["train_error"])
                print(f"{kind}-{depth} seed {seed}: {ends}; test {run['test_error']:.1f}")
    if options.json:
        save(record, options.json)


if __name__ == "__main__":
    main()
