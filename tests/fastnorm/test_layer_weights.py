"""Weights that were saved without the layer: the error, the warning, the annulus added to them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastnorm import Annulus, EllipticalAnnulus, FootprintNorm, OuterAnnulusNorm
from fastnorm.layer import FootprintMismatchError, MissingFootprintWarning, with_footprint

RING, OTHER = Annulus(9.0, 14.0), Annulus(8.0, 13.0)
HOW = r"fastnorm\.layer\.with_footprint"


class Network(nn.Module):
    """A network with a nested part, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))
        self.head = nn.Linear(2, 1)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.head(self.stem(images).mean((-2, -1)))
        return result


class Nested(nn.Module):
    """A finder whose layer lies two levels deep."""

    def __init__(self, ring: Annulus = RING, **options: Any) -> None:
        super().__init__()
        self.front = nn.ModuleDict({"norm": OuterAnnulusNorm(ring.r_in, ring.r_out, **options)})
        self.network = Network()

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.network(self.front["norm"](images))
        return result


def network(seed: int) -> Network:
    torch.manual_seed(seed)
    return Network().eval()


def sequence(ring: Annulus = RING, seed: int = 1, **options: Any) -> nn.Sequential:
    return nn.Sequential(OuterAnnulusNorm(ring.r_in, ring.r_out, **options), network(seed)).eval()


def flat(*first: nn.Module, seed: int = 1) -> nn.Sequential:
    torch.manual_seed(seed)
    parts = (nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1))
    return nn.Sequential(*first, *parts)


def without_layer(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a model from before the layer was in it."""
    state = copy.deepcopy(model.state_dict())
    return {key: value for key, value in state.items() if not key.endswith("_extra_state")}


def images() -> Tensor:
    return torch.randn(2, 3, 33, 33, generator=torch.Generator().manual_seed(5))


def test_the_error_names_the_helper_and_the_key() -> None:
    with pytest.raises(RuntimeError, match=rf"'0\._extra_state'.*{HOW}"):
        sequence().load_state_dict(without_layer(sequence()))
    with pytest.raises(RuntimeError, match=rf"'front\.norm\._extra_state'.*{HOW}"):
        Nested().load_state_dict(without_layer(Nested()))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_named(prefix: str) -> None:
    weights = {f"{prefix}{key}": value for key, value in sequence().state_dict().items()}
    with pytest.raises(
        RuntimeError, match=rf"but '{prefix}0\._extra_state': remove the pref"
    ) as told:
        sequence().load_state_dict(weights)
    assert "with_footprint" not in str(told.value)
    with pytest.warns(MissingFootprintWarning, match="remove the prefixes"):
        sequence().load_state_dict(weights, strict=False)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("change", [{"ring": OTHER}, {"clip": 3.0}])
def test_another_annulus_is_an_error_that_users_of_torch_expect(
    change: dict[str, Any], strict: bool
) -> None:
    for kind in (RuntimeError, ValueError, FootprintMismatchError):
        with pytest.raises(kind, match="the model was trained with"):
            sequence(**change).load_state_dict(sequence().state_dict(), strict=strict)


def test_no_strictness_is_a_warning() -> None:
    weights, model = without_layer(sequence(seed=2)), sequence()
    with pytest.warns(MissingFootprintWarning, match=rf"'0\._extra_state'.*{HOW}") as caught:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    assert [warning.filename for warning in caught] == [__file__]
    assert (missing, unexpected) == (["0._extra_state"], [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.load_state_dict(with_footprint(weights, model, RING, clip=10), strict=False)


def test_the_annulus_is_added_and_compared() -> None:
    weights, model = without_layer(sequence(seed=2)), sequence()
    before = copy.deepcopy(weights)
    model.load_state_dict(with_footprint(weights, model, RING, clip=10))
    assert torch.equal(model(images()), sequence(seed=2)(images()))
    assert weights.keys() == before.keys()
    for wrong, options, words in (
        (
            OTHER,
            {"clip": 10},
            r"footprint has .*\(8\.0, 13\.0\), but the layer '0' .*\(9\.0, 14\.0\)",
        ),
        (RING, {"clip": 5}, "has clip=5, .*of model has clip=10"),
        (RING, {"clip": 10, "nan_to_zero": False}, "nan_to_zero=False, but"),
        (RING, {"clip": 10, "eps": 1e-6}, "eps=1e-06, .*but"),
        (EllipticalAnnulus(9, 14, 0.5, 0), {"clip": 10}, "must never be mixed"),
    ):
        with pytest.raises(ValueError, match=words):
            with_footprint(weights, model, wrong, **options)
    with pytest.raises(TypeError, match="clip"):
        with_footprint(weights, model, RING)  # type: ignore[call-arg]


def test_an_annulus_in_the_state_is_never_replaced() -> None:
    of_other = sequence(OTHER).state_dict()
    for model in (sequence(), sequence(OTHER)):
        with pytest.raises(ValueError, match=r"\(8\.0, 13\.0\), but .*\(9\.0, 14\.0\).*never be"):
            with_footprint(of_other, model, RING, clip=10)
    same = with_footprint(of_other, sequence(OTHER), OTHER, clip=10)
    sequence(OTHER).load_state_dict(same)


def loaded(make: Callable[[int], nn.Module], weights: dict[str, Tensor]) -> Tensor:
    model = make(1)
    model.load_state_dict(with_footprint(weights, model, RING, clip=10))
    result: Tensor = model.eval()(images())
    return result


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


PLACES: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]] = {
    "nested": (lambda seed: Nested(), lambda seed: Nested()),
    "parallel": (
        lambda seed: nn.DataParallel(sequence(seed=seed)),
        lambda seed: nn.DataParallel(sequence(seed=seed)),
    ),
    "parallel into plain": (
        lambda seed: nn.DataParallel(sequence(seed=seed)),
        lambda seed: sequence(seed=seed),
    ),
    "plain into parallel": (
        lambda seed: sequence(seed=seed),
        lambda seed: nn.DataParallel(sequence(seed=seed)),
    ),
    "compiled into plain": (
        lambda seed: compiled(sequence(seed=seed)),
        lambda seed: sequence(seed=seed),
    ),
    "plain into compiled": (
        lambda seed: sequence(seed=seed),
        lambda seed: compiled(sequence(seed=seed)),
    ),
    "compiled part": (
        lambda seed: nn.Sequential(nn.Identity(), compiled(network(seed))),
        lambda seed: sequence(seed=seed),
    ),
    "compiled and parallel": (
        lambda seed: nn.DataParallel(compiled(sequence(seed=seed))),
        lambda seed: compiled(sequence(seed=seed)),
    ),
    "before the layer, as a part": (network, lambda seed: sequence(seed=seed)),
    "before the layer, one place earlier": (
        lambda seed: flat(seed=seed),
        lambda seed: flat(OuterAnnulusNorm(RING.r_in, RING.r_out), seed=seed),
    ),
    "parallel, before the layer": (
        lambda seed: nn.DataParallel(flat(seed=seed)),
        lambda seed: flat(OuterAnnulusNorm(RING.r_in, RING.r_out), seed=seed),
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_wherever_the_layer_lies(place: str) -> None:
    of_weights, make = PLACES[place]
    torch.manual_seed(2)
    other = of_weights(2)
    weights = without_layer(other)
    model = make(1)
    ready = with_footprint(weights, model, RING, clip=10)
    assert ready.keys() == model.state_dict().keys()
    model.load_state_dict(ready)
    theirs, ours = (list(module.parameters()) for module in (other, model))
    assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))
    assert torch.isfinite(model.eval()(images())).all()


def test_keys_that_fit_nowhere_are_left_for_the_loader() -> None:
    model = sequence()
    weights = {"encoder.weight": torch.zeros(3)}
    ready = with_footprint(weights, model, RING, clip=10)
    assert set(ready) == {"encoder.weight", "0._extra_state"}
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(ready)


def test_two_places_that_both_fit_are_not_chosen_between() -> None:
    model = nn.ModuleDict({"norm": OuterAnnulusNorm(9.0, 14.0), "a": nn.Linear(2, 2)})
    model["b"] = nn.Linear(2, 2)
    weights = nn.Linear(2, 2).state_dict()
    ready = with_footprint(weights, model, RING, clip=10)
    assert set(ready) == {"weight", "bias", "norm._extra_state"}


def test_what_cannot_be_added_is_an_error() -> None:
    weights = network(1).state_dict()
    with pytest.raises(ValueError, match="model has no layer"):
        with_footprint(weights, network(1), RING, clip=10)
    with pytest.raises(TypeError, match="model is a Tensor"):
        with_footprint(weights, torch.zeros(3), RING, clip=10)  # type: ignore[arg-type]
    for wrong in ({"model": weights}, {"state_dict": weights, "epoch": 3}):
        with pytest.raises(ValueError, match=f"weights has the key '{next(iter(wrong))}', .*give"):
            with_footprint(wrong, sequence(), RING, clip=10)
    with pytest.raises(TypeError, match="footprint"):
        with_footprint(weights, sequence(), (9.0, 14.0), clip=10)


def test_the_version_of_the_state_stays() -> None:
    weights = network(2).state_dict()
    ready = with_footprint(weights, sequence(), RING, clip=10)
    # Without the metadata of torch, batch norms take the state for one of an older version.
    assert ready._metadata["1.stem.1"]["version"] == 2  # type: ignore[attr-defined]


def test_every_layer_of_a_model_is_compared() -> None:
    model = nn.ModuleList([FootprintNorm(RING), FootprintNorm(OTHER)])
    with pytest.raises(ValueError, match="must never be mixed"):
        with_footprint({}, model, RING, clip=10)
