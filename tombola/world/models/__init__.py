"""Plain modules; no mask in any forward."""

from tombola.world.models.lenet import LeNet

__all__ = ["LeNet"]
