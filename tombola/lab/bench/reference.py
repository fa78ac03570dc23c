"""Iterative magnitude pruning as users write it: the plain thing to be compared with."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tombola.pieces.schedule import Target
from tombola.values.rng import borrowed_generators, reseed
from tombola.world.calling import called, logits
from tombola.world.world import World


def reference(world: World, targets: tuple[Target, ...], seed: int, arms: tuple[str, ...]) -> None:
    """Train, cut, rewind, with every mask also trained from a new start where "reinit" is asked.

    A module, a DataLoader over tensors that are ready, the mask multiplied into the weights before
    each step and into their gradients after it, torch's Adam as it comes, validation as often as
    the world asks, and the test set at the end. What tombola does beside this (best state kept,
    digests, self-checks, results stored) is left out, in the reference's favour.
    """
    with borrowed_generators():
        reseed(seed)
        _study(world, targets, arms)


def _study(world: World, targets: tuple[Target, ...], arms: tuple[str, ...]) -> None:
    loaders = {
        name: _loader(world, name, shuffle=name == "train")
        for name in ("train", "validation", "test")
    }
    start = {k: v.clone() for k, v in world.model().state_dict().items()}
    masks: dict[str, Tensor] = {}
    ended = start
    for target in targets:
        if target.round:
            masks = _cut(ended, masks, target, world)
        ended = _trained(world, start, masks, loaders)
        if "reinit" in arms and target.round:
            _trained(world, world.model().state_dict(), masks, loaders)


def _loader(world: World, name: str, shuffle: bool) -> DataLoader[tuple[Tensor, ...]]:
    split = getattr(world, name)
    everything = world.batch(split, torch.arange(len(split)))
    data = TensorDataset(everything.inputs, everything.targets)
    size = world.batch_size if shuffle else 1_000
    return DataLoader(data, batch_size=size, shuffle=shuffle, drop_last=shuffle)


def _trained(
    world: World,
    start: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    loaders: Mapping[str, DataLoader[tuple[Tensor, ...]]],
) -> dict[str, Tensor]:
    network = world.model()
    network.load_state_dict(dict(start))
    optimiser = torch.optim.Adam(network.parameters(), lr=world.optimiser.lr)
    criterion, made = nn.CrossEntropyLoss(), 0
    assert world.evaluate_every is not None
    while made < world.steps:
        for inputs, targets in loaders["train"]:
            _apply(network, masks)
            optimiser.zero_grad()
            criterion(logits(called(network, inputs)), targets).backward()
            for name, parameter in network.named_parameters():
                if name in masks and parameter.grad is not None:
                    parameter.grad.mul_(masks[name])
            optimiser.step()
            made += 1
            if made % world.evaluate_every == 0:
                _accuracy(network, loaders["validation"])
            if made == world.steps:
                break
    _apply(network, masks)
    _accuracy(network, loaders["test"])
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _apply(network: nn.Module, masks: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in masks:
                parameter.mul_(masks[name])


def _accuracy(network: nn.Module, loader: DataLoader[tuple[Tensor, ...]]) -> float:
    network.eval()
    right = total = 0
    with torch.no_grad():
        for inputs, targets in loader:
            right += int((logits(called(network, inputs)).argmax(dim=1) == targets).sum())
            total += len(targets)
    network.train()
    return right / total


def _cut(
    ended: Mapping[str, Tensor], masks: Mapping[str, Tensor], target: Target, world: World
) -> dict[str, Tensor]:
    """The largest weights of each layer, as many as the target asks for."""
    counts, found = target.counts, {}
    for layer in world.layers:
        size = ended[layer.name].abs() * masks.get(layer.name, torch.ones(()))
        keep = counts[layer.name] if counts else round(target.density * layer.count)
        mask = torch.zeros(layer.count)
        mask[size.flatten().topk(keep).indices] = 1.0
        found[layer.name] = mask.reshape(layer.shape)
    return found
