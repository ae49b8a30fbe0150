import math

import pytest
import torch
from torch import nn

from resnet_course import data, resnet, train


@pytest.fixture(scope="module")
def digits():
    return data.digits()


def small(digits):
    """The data set with few images, for speed."""
    from dataclasses import replace

    return replace(
        digits, train_images=digits.train_images[:256], train_labels=digits.train_labels[:256]
    )


def test_overfits_one_batch(digits):
    train.seed_everything(0)
    model = resnet.cifar_resnet(8, in_channels=1)
    history = train.fit(model, small(digits), 25, 0.05, evaluate_every=25)
    assert history.train_loss[-1] < 0.1 < history.train_loss[0]
    assert history.train_error_eval[-1] < 0.05


def test_same_seed_same_history(digits):
    def run(seed):
        train.seed_everything(0)
        model = resnet.cifar_plain(8, in_channels=1)
        return train.fit(model, small(digits), 2, 0.02, seed=seed).train_loss

    assert run(0) == run(0)
    assert run(0) != run(1)


def test_history_has_one_entry_per_epoch(digits):
    history = train.fit(
        resnet.cifar_plain(8, in_channels=1), small(digits), 3, 0.02, evaluate_every=2
    )
    assert all(len(values) == 3 for values in history.to_dict().values())
    assert [math.isnan(error) for error in history.test_error] == [True, False, False]


def test_fit_is_plain_sgd(digits):
    """One epoch by hand gives the same weights."""
    train.seed_everything(0)
    ours = resnet.cifar_plain(8, in_channels=1)
    by_hand = resnet.cifar_plain(8, in_channels=1)
    by_hand.load_state_dict(ours.state_dict())
    part = small(digits)
    train.fit(ours, part, 1, 0.02, seed=5)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    for images, labels in part.batches(128, torch.Generator().manual_seed(5)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(by_hand(images), labels).backward()
        optimizer.step()
    for a, b in zip(ours.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_schedule_is_followed(digits):
    seen = []

    def schedule(step):
        seen.append(step)
        return 0.0  # no step at all

    model = resnet.cifar_plain(8, in_channels=1)
    before = model.fc.weight.detach().clone()
    train.fit(model, small(digits), 2, 0.1, schedule=schedule)
    assert seen == [0, 1, 2, 3]
    assert torch.equal(model.fc.weight, before)


def test_paper_schedule():
    steps = [0, 31_999, 32_000, 47_999, 48_000, 63_999]
    assert [train.paper_schedule(s) for s in steps] == [1, 1, 0.1, 0.1, 0.01, 0.01]


def test_warmup():
    rate = train.warmup(400)
    assert (rate(0), rate(399), rate(400)) == (0.1, 0.1, 1.0)


def test_evaluate_counts_and_restores_the_mode(digits):
    class Guess(nn.Module):
        """Answers 3, always; fails in training mode."""

        def forward(self, x):
            assert not self.training
            return nn.functional.one_hot(torch.full((len(x),), 3), 10).float()

    model = Guess().train()
    _, error = train.evaluate(model, digits.test_images, digits.test_labels, batch_size=77)
    assert model.training
    assert error == pytest.approx((digits.test_labels != 3).float().mean().item())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 0.1), "epochs must be at least 1, got 0"), ((1, -1), "positive learning rate, got -1")],
)
def test_bad_arguments(digits, arguments, message):
    with pytest.raises(ValueError, match=message):
        train.fit(resnet.cifar_plain(8, in_channels=1), digits, *arguments)


def test_half_precision_learns_too(digits):
    half = train.native_half("cpu")
    if half is None:
        pytest.skip("this processor has no bf16 instructions")
    train.seed_everything(0)
    model = resnet.cifar_resnet(8, in_channels=1)
    history = train.fit(model, small(digits), 10, 0.05, half=half)
    assert history.train_loss[-1] < history.train_loss[0] / 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_learns(digits):
    train.seed_everything(0)
    part = small(digits).to("cuda")
    history = train.fit(
        resnet.cifar_resnet(8, in_channels=1), part, 20, 0.05, half=train.native_half("cuda")
    )
    assert history.train_error_eval[-1] < 0.1


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (4, 2), (64, 2)])
def test_threads_leave_half_of_the_cores_to_others(monkeypatch, cores, threads):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(train, "cores", lambda: cores)
    try:
        assert train.share_the_cpu() == threads
        torch.set_num_threads(3)
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert train.share_the_cpu() == 3
    finally:
        torch.set_num_threads(before)
