"""Augmentation and conversion on tensors, against loops over pixels."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from tombola.errors import WorldError
from tombola.testing import toy_world
from tombola.values.rng import stream
from tombola.world.batch import Batch
from tombola.world.data.split import Split
from tombola.world.prepare import FlipAndCrop, InTurn, Scaled, Standardised


def batch(images: Tensor) -> Batch:
    return Batch(images, torch.zeros(len(images)), torch.arange(len(images)))


def pixels(*shape: int) -> Tensor:
    return torch.randint(1, 256, shape, generator=stream(0, "pixels"), dtype=torch.uint8)


def shifted(image: Tensor, down: int, right: int, mirrored: bool, padding: int) -> Tensor:
    """One image (channels, height, width), pixel by pixel: mirror, then look through a window that
    starts `down`, `right` of the corner of the padded image."""
    _, height, width = image.shape
    found = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y, x = row + down - padding, column + right - padding
            if 0 <= y < height and 0 <= x < width:
                found[:, row, column] = image[:, y, width - 1 - x if mirrored else x]
    return found


def test_each_image_is_one_of_the_shifted_and_mirrored_ones_and_all_come_up() -> None:
    image, padding = pixels(3, 4, 5), 1
    known = {
        shifted(image, down, right, mirrored, padding).numpy().tobytes(): (down, right, mirrored)
        for down in range(3)
        for right in range(3)
        for mirrored in (False, True)
    }
    assert len(known) == 18
    many = batch(image.expand(1_800, 3, 4, 5))
    out = FlipAndCrop(padding=padding)(many, stream(0)).inputs
    assert out.shape == (1_800, 3, 4, 5)
    assert out.dtype is torch.uint8
    seen = Counter(known[one.numpy().tobytes()] for one in out)
    assert len(seen) == 18
    assert min(seen.values()) > 60  # of 100 expected: four deviations below


def test_without_padding_images_are_mirrored_alone() -> None:
    images = pixels(200, 1, 2, 3)
    out = FlipAndCrop(padding=0)(batch(images), stream(0)).inputs
    same = (out == images).flatten(1).all(1)
    assert bool((same | (out == images.flip(3)).flatten(1).all(1)).all())
    assert 70 < int(same.sum()) < 130


def test_the_draws_belong_to_the_generator() -> None:
    images, augment = pixels(6, 3, 8, 8), FlipAndCrop()
    one, again, other = (augment(batch(images), stream(0, name)).inputs for name in "aab")
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    state = torch.random.get_rng_state()
    augment(batch(images), stream(1))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_evaluation_sees_images_as_they_are() -> None:
    images = pixels(3, 3, 8, 8)
    assert FlipAndCrop()(batch(images), None).inputs is images
    world = toy_world(
        model=lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3)),
        train=(pixels(40, 3, 4, 4), torch.arange(40) % 3),
        validation=(pixels(9, 3, 4, 4), torch.arange(9) % 3),
        test=(pixels(9, 3, 4, 4), torch.arange(9) % 3),
        prepare=InTurn((FlipAndCrop(padding=1), Scaled())),
    )
    plain = world.batch(world.test, torch.arange(4)).inputs
    assert torch.equal(plain, world.test.inputs[:4] / 255)
    moved = world.batch(world.test, torch.arange(4), stream(0)).inputs
    assert not torch.equal(moved, plain)


def test_standardised_is_pixel_by_pixel() -> None:
    images, mean, std = pixels(2, 3, 4, 4), (0.1, 0.5, 0.9), (0.2, 0.3, 1.0)
    out = Standardised(mean=mean, std=std)(batch(images), None).inputs
    for place, channel, y, x in torch.cartesian_prod(*map(torch.arange, images.shape)).tolist():
        wanted = (int(images[place, channel, y, x]) / 255 - mean[channel]) / std[channel]
        assert float(out[place, channel, y, x]) == pytest.approx(wanted, abs=1e-5)


def test_black_around_the_image_is_standardised_with_it() -> None:
    images = torch.full((50, 1, 2, 2), 255, dtype=torch.uint8)
    both = InTurn((FlipAndCrop(padding=2), Standardised(mean=(0.5,), std=(0.5,))))
    assert set(both(batch(images), stream(0)).inputs.flatten().tolist()) == {-1.0, 1.0}


def test_stored_images_are_not_written_into() -> None:
    images = pixels(4, 3, 4, 4)
    split = Split(images, torch.zeros(4))
    before = split.inputs.clone()
    everything = InTurn((FlipAndCrop(), Standardised(mean=(0.5,) * 3, std=(0.2,) * 3)))
    everything(split.take(torch.arange(4)), stream(0)).inputs.zero_()
    assert torch.equal(split.inputs, before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FlipAndCrop(padding=-1), "want pixels, 0 or more"),
        (lambda: Standardised(mean=(0.0,), std=(0.0,)), "one deviation over 0"),
        (lambda: Standardised(mean=(0.0, 0.0), std=(1.0,)), "one mean and one deviation"),
    ],
    ids=["padding", "zero", "lengths"],
)
def test_wrong_settings_are_refused(make, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(WorldError, match=message):
        make()


def test_another_number_of_channels_is_an_error_that_says_so() -> None:
    grey = Standardised(mean=(0.5,), std=(0.2,))
    with pytest.raises(WorldError, match=r"\(2, 3, 4, 4\); want \(examples, 1, height, width\)"):
        grey(batch(pixels(2, 3, 4, 4)), None)
