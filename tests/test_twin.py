"""The twin shares the weights, and what is unsound about a network is named."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from awml_deploy_core.errors import LoadError, PluginError
from awml_deploy_core.twin import require_sound, submodule, twin, versions


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6()).eval()


def test_a_twin_costs_no_memory_and_can_be_edited_alone() -> None:
    model = net()
    other = twin(model)
    assert isinstance(other, nn.Sequential)
    assert isinstance(model, nn.Sequential)
    assert {id(t) for t in other.state_dict(keep_vars=True).values()} == {
        id(t) for t in model.state_dict(keep_vars=True).values()
    }
    other[2] = nn.ReLU()
    assert isinstance(model[2], nn.ReLU6)


def test_a_change_in_place_shows_in_the_versions() -> None:
    model = net()
    before = versions(model)
    model(torch.zeros(1, 3, 5, 5))
    assert versions(model) == before
    with torch.no_grad():
        next(twin(model).parameters()).mul_(2)
    assert versions(model) != before


def test_training_mode_is_named_with_the_part_that_is_in_it() -> None:
    model = net()
    next(iter(model.children())).train()
    with pytest.raises(PluginError, match=r"in training mode \(0\)"):
        require_sound(model, "awml-toy 1.0")


def test_weights_on_another_device_are_refused() -> None:
    with pytest.raises(PluginError, match=r"0\.weight on meta"):
        require_sound(net().to("meta"), "awml-toy 1.0")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(wrong: float) -> None:
    model = net()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.fill_(wrong)
    with pytest.raises(LoadError, match=r"0.weight, 0.bias, 1.weight and 3 more"):
        require_sound(model, "awml-toy 1.0")


def test_several_components_are_submodules_by_name() -> None:
    model = nn.ModuleDict({"encoder": nn.Linear(1, 1), "head": nn.Linear(1, 1)})
    assert submodule(model, "head", single=False, plugin="p") is model["head"]
    assert submodule(model, "head", single=True, plugin="p") is model
    with pytest.raises(PluginError, match="which module runs the component 'tail'"):
        submodule(model, "tail", single=False, plugin="p")
