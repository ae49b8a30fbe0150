import pytest
import torch

from resnet_course import data


@pytest.fixture(scope="module")
def digits():
    return data.digits()


def test_digits_shapes_and_statistics(digits):
    assert digits.train_images.shape == (1437, 1, 8, 8)
    assert digits.test_images.shape == (360, 1, 8, 8)
    assert digits.image_shape == (1, 8, 8) and digits.in_channels == 1
    assert digits.train_images.mean().abs() < 1e-5
    assert digits.train_images.std() == pytest.approx(1, abs=1e-3)
    assert digits.test_images.mean().abs() > 1e-6  # standardized by the training images alone


def test_pixels_are_the_original_ones(digits):
    pixels = digits.pixels(digits.train_images)
    assert torch.allclose(pixels, pixels.round(), atol=1e-4)
    assert pixels.min() > -1e-4 and pixels.max() < 16 + 1e-4


def test_every_class_has_its_share(digits):
    share = torch.bincount(digits.test_labels) / torch.bincount(digits.train_labels)
    assert share.min() > 0.22 and share.max() < 0.28


def test_seed_decides_the_split(digits):
    assert torch.equal(data.digits(seed=0).test_images, digits.test_images)
    assert not torch.equal(data.digits(seed=1).test_images, digits.test_images)


def test_batches_cover_the_data_once_in_the_seed_s_order(digits):
    def epoch(seed):
        order = torch.Generator().manual_seed(seed)
        return torch.cat([y for _, y in digits.batches(100, order, drop_last=False)])

    assert torch.equal(epoch(3).sort().values, digits.train_labels.sort().values)
    assert torch.equal(epoch(3), epoch(3))
    assert not torch.equal(epoch(3), epoch(4))


def test_drop_last_leaves_full_batches(digits):
    sizes = [len(y) for _, y in digits.batches(128, torch.Generator())]
    assert sizes == [128] * digits.batches_per_epoch(128) == [128] * 11


@pytest.mark.parametrize("size", [0, 1438])
def test_impossible_batch_size(digits, size):
    with pytest.raises(ValueError, match=f"between 1 and 1437, got {size}"):
        next(digits.batches(size, torch.Generator()))


def test_impossible_split():
    with pytest.raises(ValueError, match="between 10 and 1787"):
        data.digits(test_size=5)


def test_shift_moves_each_image_by_at_most_one_pixel():
    images = torch.zeros(50, 2, 5, 5)
    images[:, :, 2, 2] = 1
    moved = data.shift(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert torch.equal(moved.sum((2, 3)), torch.ones(50, 2))
    assert torch.equal(moved[:, 0], moved[:, 1])  # channels move together
    places = {tuple(place) for place in (moved[:, 0] == 1).nonzero()[:, 1:].tolist()}
    assert places == {(r, c) for r in (1, 2, 3) for c in (1, 2, 3)}
