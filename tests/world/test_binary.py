"""Binary activations: values and gradient, every way to write ReLU, and what stays as it was."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tombola.errors import CallError, ShipError, WorldError
from tombola.lookup import find_world
from tombola.out.ship.formats import check_format
from tombola.out.ship.onnx import exported
from tombola.recipes import MULTI_PRIZE
from tombola.recipes.job import NoDesk
from tombola.recipes.jobs import Train
from tombola.testing import check_recipe, toy_world
from tombola.train.executors.executor import NotServedError
from tombola.train.executors.links import links_of
from tombola.values.mask import Mask
from tombola.values.point import Point
from tombola.world.binary import BinaryActivations, binarised, binary
from tombola.world.numerics import Numerics
from tombola.world.optimiser import SGD
from tombola.world.world import initial_params


def test_signs_and_the_gradient_of_the_quadratic_spline() -> None:
    values = torch.tensor([-2.0, -1.0, -0.75, -1e-30, -0.0, 0.0, 0.5, 1.0, 1.5])
    inputs = values.clone().requires_grad_(True)
    found = binary(inputs)
    (gradient,) = torch.autograd.grad(found.sum(), inputs)
    assert found.tolist() == [-1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    twin = [2 * (1 - abs(x)) if abs(x) <= 1 else 0.0 for x in values.tolist()]
    assert gradient.tolist() == pytest.approx(twin)


def test_an_activation_of_zero_is_not_dropped() -> None:
    """torch.sign(0) is 0: a unit of a layer without inputs would fall silent."""
    assert torch.sign(torch.zeros(1)).item() == 0.0
    assert binary(torch.zeros(1)).item() == 1.0


def test_what_is_no_number_stays_none() -> None:
    assert binary(torch.tensor(float("nan"))).isnan()
    assert binary(torch.tensor([float("inf"), float("-inf")])).tolist() == [1.0, -1.0]


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "method": lambda x: x.relu(),
    "function": torch.relu,
    "functional": F.relu,
    "keyword": lambda x: F.relu(input=x),
    "module": nn.ReLU(),
    "module in place": lambda x: nn.ReLU(inplace=True)(x * 1),
    "in place": lambda x: (x * 1).relu_(),
    "functional in place": lambda x: F.relu(x * 1, True),
}


@pytest.mark.parametrize("way", WAYS)
def test_relu_however_it_is_written(way: str) -> None:
    inputs = torch.tensor([-0.5, 0.0, 3.0], requires_grad=True)
    with BinaryActivations() as seen:
        found = WAYS[way](inputs)
    assert found.tolist() == [-1.0, 1.0, 1.0] and seen.replaced == 1
    assert torch.autograd.grad(found.sum(), inputs)[0].tolist() == [1.0, 2.0, 0.0]
    assert WAYS[way](inputs.detach()).tolist() == [0.0, 0.0, 3.0]  # and not outside


def test_in_place_changes_the_tensor_itself() -> None:
    hidden = torch.tensor([-0.5, 2.0])
    with BinaryActivations():
        F.relu(hidden, inplace=True)
    assert hidden.tolist() == [-1.0, 1.0]


class Slim(nn.Module):
    """One hidden layer, and a way to look at it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.act = nn.Linear(6, 5), nn.Linear(5, 3), nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.last(self.act(self.first(inputs)))
        return outputs


def test_a_binarised_world_computes_with_signs_and_is_otherwise_the_same() -> None:
    plain = toy_world(model=Slim, thin=None)
    world = binarised(plain)
    network, inputs = world.new_network(3), world.train.inputs[:7]
    assert isinstance(network, Slim)
    hidden = torch.where(network.first(inputs) >= 0, 1.0, -1.0)
    assert network(inputs).equal(network.last(hidden))
    assert not network(inputs).equal(plain.new_network(3)(inputs))
    state, before = network.state_dict(), plain.new_network(3).state_dict()
    assert all(state[name].equal(before[name]) for name in before) and state.keys() == before.keys()
    assert world.digest != plain.digest and world.digest == binarised(plain).digest
    assert (world.layers, world.steps, world.optimiser) == (
        *(plain.layers, plain.steps, plain.optimiser),
    )


def test_the_thinner_network_has_signs_too() -> None:
    world = binarised(toy_world())
    assert world.thin is not None
    thin, inputs = world.thin(0.5), world.train.inputs[:7]
    hidden = inputs
    for layer in thin.layers[:-1]:
        hidden = torch.where(layer(hidden) >= 0, 1.0, -1.0)
    assert thin(inputs).equal(thin.layers[-1](hidden))


def test_a_copy_computes_with_its_own_weights() -> None:
    network = binarised(toy_world()).new_network(0)
    other, inputs = copy.deepcopy(network), torch.ones(2, 6)
    with torch.no_grad():
        other.layers[-1].weight.zero_()
        other.layers[-1].bias.fill_(4.0)
    assert bool((other(inputs) == 4.0).all())
    assert not bool((network(inputs) == 4.0).all())


def test_a_network_without_relu_is_refused() -> None:
    def smooth() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))

    with pytest.raises(WorldError, match=r"world 'toy': Sequential has no ReLU, so there is no"):
        binarised(toy_world(model=smooth, thin=None))
    with pytest.raises(WorldError, match="LeNet has no ReLU"):
        binarised(binarised(toy_world()))


def test_executors_and_formats_that_would_compute_relu_decline() -> None:
    world = binarised(toy_world())
    with pytest.raises(NotServedError, match="computes something else"):
        links_of(world.new_network(0), world.train.inputs[0])
    with pytest.raises(ShipError, match="computes something else"):
        check_format("sparse", world)


@pytest.mark.parametrize("executor", ["auto", "sparse", "compact", "stacked"])
def test_every_executor_trains_the_binary_network(executor: str) -> None:
    ends = []
    for numerics in (Numerics(executor="dense"), Numerics(executor=executor)):
        world = binarised(toy_world(numerics=numerics, optimiser=SGD(lr=0.1), steps=3))
        third = {la.name: torch.arange(la.count).reshape(la.shape) % 3 == 0 for la in world.layers}
        begin = Point(initial_params(world, 0), None, 0)
        job = Train(world, 0, begin, Mask(third), 3, world.objective)
        ends.append(job.run(NoDesk()).params.load())
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, rtol=1e-5, atol=1e-6)


def test_onnx_takes_the_signs_along() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    world = binarised(toy_world())
    network, inputs = world.new_network(0).eval(), world.train.inputs[:9]
    session = onnxruntime.InferenceSession(
        exported(network, inputs[:2]), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), network(inputs))


def test_multi_prize_tickets_with_binary_activations() -> None:
    check_recipe(MULTI_PRIZE, binarised(toy_world()))


def test_a_world_is_named_with_binary_activations() -> None:
    world = find_world("digits-short,lr=0.1,activations=binary")
    assert world.name == "digits-short,lr=0.1,activations=binary"
    assert world.optimiser.lr == 0.1
    hidden = world.new_network(0)
    assert not hidden(world.train.inputs[:9]).equal(
        find_world("digits-short").new_network(0)(world.train.inputs[:9])
    )
    with pytest.raises(CallError, match=r"got 'activations=ternary'; want .* activations=binary"):
        find_world("digits,activations=ternary")
