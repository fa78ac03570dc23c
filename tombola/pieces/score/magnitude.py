"""Magnitude of a weight, trained or initial."""

from dataclasses import dataclass

from torch import Tensor

from tombola.pieces.score.score import Need, Probe, Snapshot, When


@dataclass(frozen=True, kw_only=True)
class Magnitude:
    """|w|: at the moment of the cut (large final), or at initialisation (large init).

    Source: Frankle & Carbin 2019 (arXiv 1803.03635), section 1, step 3; the names are those of Zhou
    et al. 2019 (arXiv 1905.01067), section 2. The codes of the former drop everything at or below a
    threshold and so one weight too many, that of the latter breaks ties at random; here counts are
    exact and ties go to the lower index (`rule`).
    """

    when: When = When.END

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.TRAINED}) if self.when is When.END else frozenset()

    def __call__(self, at: Snapshot, probe: Probe) -> dict[str, Tensor]:
        params = at.params(self.when)
        return {layer.name: params[layer.name].abs() for layer in at.layers}
