"""Order of batches and augmentation, which depend only on seed, epoch and position."""

from __future__ import annotations

from itertools import chain, islice, product
from typing import Any

import numpy as np
import pytest
import torch

from dhs.train.augmentation import augment_batch, dihedral_elements, is_dihedral, sample_seed
from dhs.train.sampler import BatchSampler
from dhs.transforms import AugmentConfig, random_augment
from fastnorm.normalize.tensors import turn


def epoch_of(sampler: BatchSampler, epoch: int = 0) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return [positions.tolist() for positions in sampler]


def test_an_epoch_holds_every_cutout_at_most_once_in_an_order_of_its_own() -> None:
    sampler = BatchSampler(103, 10, seed=1)
    first, second = epoch_of(sampler, 0), epoch_of(sampler, 1)
    assert len(first) == len(sampler) == 10
    flat = list(chain(*first))
    assert len(set(flat)) == 100
    assert set(flat) <= set(range(103))
    assert first != second
    assert set(chain(*first)) != set(chain(*second))
    assert epoch_of(BatchSampler(103, 10, seed=1), 1) == second
    assert epoch_of(BatchSampler(103, 10, seed=2), 0) != first


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_batches_of_one(world: int) -> None:
    alone = epoch_of(BatchSampler(100, 8, seed=4))
    shares = [epoch_of(BatchSampler(100, 8, seed=4, rank=r, world=world)) for r in range(world)]
    assert len({len(share) for share in shares}) == 1
    together = [batch for group in zip(*shares, strict=True) for batch in group]
    assert together == alone[: len(together)]
    assert len(alone) - len(together) < world


def test_it_goes_on_in_the_middle_of_an_epoch() -> None:
    sampler = BatchSampler(50, 4, seed=9)
    whole = epoch_of(sampler, 3)
    sampler.set_epoch(3)
    begun = [batch.tolist() for batch in islice(sampler, 5)]
    other = BatchSampler(50, 4, seed=9)
    other.load_state_dict(sampler.state_dict())
    assert begun + [batch.tolist() for batch in other] == whole


def test_looking_ahead_gives_nothing_out() -> None:
    sampler = BatchSampler(50, 4, seed=9)
    assert len(list(sampler.batches())) == len(list(sampler.batches())) == 12
    assert sampler.state_dict()["given_out"] == 0


def test_a_state_of_another_sampler_is_refused_by_name() -> None:
    state = BatchSampler(50, 4, seed=9).state_dict()
    with pytest.raises(
        ValueError, match=r"n is 50 in the state and 51 in this run; seed is 9 .* 8 in this"
    ):
        BatchSampler(51, 4, seed=8).load_state_dict(state)


def test_balance_draws_both_classes_equally_often() -> None:
    labels = np.r_[np.ones(7), np.zeros(40)]
    sampler = BatchSampler(47, 8, seed=2, labels=labels, balance=True)
    drawn = np.array(list(chain(*epoch_of(sampler))))
    assert len(drawn) == 80
    assert np.array_equal(np.sort(drawn[labels[drawn] == 0]), np.arange(7, 47))
    counts = np.bincount(drawn[labels[drawn] == 1], minlength=7)
    assert counts.sum() == 40
    assert np.ptp(counts) <= 1
    # A random order has no long run of one class.
    changes = np.count_nonzero(np.diff(labels[drawn]))
    assert 20 < changes < 60


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"n": 15, "batch_size": 8, "world": 2}, "15 cutouts, fewer than one batch of 8 for each"),
        ({"n": 10, "batch_size": 2, "rank": 1}, "rank=1 must be .* below world=1"),
        ({"n": 10, "batch_size": 0}, "batch_size=0"),
        ({"n": 10, "batch_size": 2, "balance": True}, "needs one label per cutout, 10"),
        (
            {"n": 3, "batch_size": 1, "balance": True, "labels": [1, 1, 1]},
            "0 have label 0 and 3 have label 1",
        ),
    ],
)
def test_what_cannot_be_sampled_is_named(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        BatchSampler(**arguments, seed=0)


FLAGS = list(product([False, True], repeat=3))


@pytest.mark.parametrize(("hflip", "vflip", "rot90"), FLAGS)
def test_elements_do_what_random_augment_does(hflip: bool, vflip: bool, rot90: bool) -> None:
    config = AugmentConfig(hflip=hflip, vflip=vflip, rot90=rot90)
    images = np.random.default_rng(0).normal(size=(40, 3, 9, 9)).astype(np.float32)
    positions = np.arange(40) * 3
    elements = dihedral_elements(1337, positions, 2, 500, config)
    turned = turn(torch.from_numpy(images), torch.from_numpy(elements)).numpy()
    for image, position, result in zip(images, positions, turned, strict=True):
        seed = (1337 * 1000003 + position + 2 * 500) & 0x7FFFFFFF
        assert np.array_equal(result, random_augment(image, int(seed), config))
    assert len(set(elements.tolist())) == (
        8 if rot90 and (hflip or vflip) else 4 if rot90 or (hflip and vflip) else 1 + hflip + vflip
    )


def test_all_of_the_augmentation_one_by_one() -> None:
    config = AugmentConfig(core_dropout_prob=0.5, az_shuffle_prob=0.5, core_radius=2)
    images = torch.randn(6, 3, 11, 11).contiguous(memory_format=torch.channels_last)
    positions = np.arange(6)
    got = augment_batch(images, 5, positions, 1, 6, config)
    assert got.is_contiguous(memory_format=torch.channels_last)
    for image, position, result in zip(images.numpy(), positions, got.numpy(), strict=True):
        seed = sample_seed(5, int(position), 1, 6)
        assert np.array_equal(result, random_augment(image, seed, config))
    assert not is_dihedral(config)
    assert is_dihedral(AugmentConfig())
