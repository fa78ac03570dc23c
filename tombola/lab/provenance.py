"""What a study was made of, and where: noted beside its numbers for people, not in their names."""

import platform
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

import numpy as np
import torch

import tombola
from tombola.lab.question import Question
from tombola.lab.verdict import Beats
from tombola.recipes.recipe import Recipe
from tombola.values.digest import digest
from tombola.values.params import params_of
from tombola.world.batch import leaves
from tombola.world.world import World


def about(question: Question) -> dict[str, Any]:
    """Recipe, world, arms and rule in words and numbers.

    layers: what may be cut, in the network's order. input: shape of one example, None where an
    example is not one tensor.
    """
    recipe, rule = question.recipe, question.rule
    return {
        "recipe": recipe.source,
        "world": _world(question.world),
        "input": _input(question.world),
        "layers": [
            {"name": layer.name, "shape": list(layer.shape), "kind": layer.kind}
            for layer in recipe.layers(question.world)
        ],
        "arms": {
            name: arm.source if isinstance(arm, Recipe) else arm.summary
            for name, arm in question.arms.items()
        },
        "alpha": rule.alpha,
        "conditions": [
            {
                "name": condition.name,
                "kind": "beats" if isinstance(condition, Beats) else "matches",
                "metric": condition.metric,
                "arm": condition.arm,
                "direction": condition.direction,
            }
            for condition in rule.conditions
        ],
    }


def _world(world: World) -> dict[str, Any]:
    network = world.new_network(0)
    return {
        "network": type(network).__name__,
        "parameters": sum(tensor.numel() for tensor in params_of(network).values()),
        "steps": world.steps,
        "batch_size": world.batch_size,
        "evaluate_every": world.evaluate_every,
        "optimiser": _said(world.optimiser),
        "objective": _said(world.objective),
        "prepare": _said(world.prepare),
        "numerics": _said(world.numerics),
        "examples": {
            "train": len(world.train),
            "validation": len(world.validation),
            "test": len(world.test),
        },
    }


def _said(piece: Any) -> str:
    """A piece as it prints, or its class where that would only say where it lies in memory."""
    return repr(piece) if is_dataclass(piece) else type(piece).__name__


def _input(world: World) -> list[int] | None:
    tensors = leaves(world.train.inputs)
    return list(tensors[0].shape[1:]) if len(tensors) == 1 else None


def place_of(question: Question) -> dict[str, Any]:
    """Where a study stands beside others: learning rate and length, and the digest of the rest."""
    world, optimiser = question.world, question.world.optimiser
    names = [one.name for one in fields(optimiser)] if is_dataclass(optimiser) else list[str]()
    beside = {name: getattr(optimiser, name) for name in names if name not in ("lr", "rate")}
    rest = [
        question.recipe,
        world.model_digest,
        world.train.digest,
        world.validation.digest,
        world.test.digest,
        world.batch_size,
        world.objective,
        world.prepare,
        type(optimiser).__qualname__,
        beside,
        question.judged_round,
    ]
    return {"lr": optimiser.lr, "steps": world.steps, "of": digest(["grid", 1, *rest])}


def call_cost(cost: Mapping[str, Any]) -> dict[str, Any]:
    """What one call for a study cost, with its date, machine and versions."""
    return {
        **cost,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "host": platform.node(),
        "machine": platform.machine(),
        "versions": {
            "tombola": tombola.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
    }
