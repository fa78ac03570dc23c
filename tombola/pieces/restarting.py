"""After a cut: what the survivors start from, and what becomes of the weights cut."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from tombola.pieces.action import Action, Rewound, Site
from tombola.pieces.basis import Basis, basis_of
from tombola.pieces.rule import Cut, Rule
from tombola.pieces.schedule import Target
from tombola.pieces.score.score import Need, Probe, Snapshot
from tombola.pieces.setting import Setting
from tombola.values.layer import Layer


@dataclass(frozen=True, kw_only=True)
class Restarting:
    """The cut of another rule, with values for what stays (mask-1 action) and what goes (mask-0).

    kept: where survivors start from. frozen_at: what weights are frozen at when they are cut, for
    good; wants a recipe with `parametrisation=Frozen()`. None, the default, cuts to zero. What is
    out of scope starts from its initial values. Use it with the rewind `FromCut`.

    The values of a ticket's start belong to one another: controls that exchange the start (fresh
    values) or the mask (other places) keep the parametrisation, and so freeze what they cut at the
    values they find there. For that, where cut weights are zero, the start holds at their places
    what they would start from.

    Source: Zhou, Lan, Liu & Yosinski 2019, Deconstructing Lottery Tickets (arXiv 1905.01067),
    sections 3 and 4. Differs: actions look at the initial values of the seed in every round, where
    the authors' code takes the start of the round before.
    """

    moves_weights: ClassVar[bool] = True

    rule: Rule
    kept: Action = field(default_factory=Rewound)
    frozen_at: Action | None = None

    @property
    def basis(self) -> Basis | None:
        return basis_of(self.rule)

    @property
    def needs(self) -> frozenset[Need]:
        frozen = frozenset[Need]() if self.frozen_at is None else self.frozen_at.needs
        return self.rule.needs | self.kept.needs | frozen

    def refuses(self, setting: Setting) -> str | None:
        if self.frozen_at is not None and setting.cuts_to_zero:
            return (
                f"Restarting(frozen_at={self.frozen_at}) says what cut weights are frozen at, but "
                "the recipe cuts them to zero; give it parametrisation=Frozen()."
            )
        if self.frozen_at is None and not setting.cuts_to_zero:
            return (
                "Restarting(frozen_at=None) cuts weights to zero, but the recipe freezes them; say "
                "at what, for example frozen_at=Rewound(), their initial values."
            )
        return self.rule.refuses(setting)

    def asks(self, layers: tuple[Layer, ...], target: Target) -> Mapping[str, int] | int:
        return self.rule.asks(layers, target)

    def cut(self, at: Snapshot, probe: Probe, target: Target) -> Cut:
        cut = self.rule.cut(at, probe, target)
        mask = cut.mask
        values = {}
        for layer in at.layers:
            site = Site(
                start=at.start[layer.name],
                end=at.end[layer.name],
                kept=mask.of(layer.name, layer.shape),
                stream=partial(probe.stream, "restart", target.round, layer.name),
            )
            values[layer.name] = self._values(site, at.mask.of(layer.name, layer.shape))
        return replace(cut, params=at.start.replaced(values))

    def _values(self, site: Site, before: Tensor) -> Tensor:
        """Of one tensor. before: bool, what was kept until this cut."""
        survivors = self.kept(site)
        if self.frozen_at is None:
            return survivors
        frozen = torch.where(before, self.frozen_at(site), site.end)
        return torch.where(site.kept, survivors, frozen)
