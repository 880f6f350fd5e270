"""Devices and reserved cores: from the configuration to the node's record."""

import pytest

from core.agent.config_records import Device
from core.agent.devices import (
    attribute_of,
    device_variables,
    node_devices,
    parse_cores,
    problems,
)


def test_a_device_block_becomes_a_record_with_an_instance_for_each_id() -> None:
    said = {"nvidia/gpu/t4": Device(ids=["a", "b"], attributes={"memory": "16 GiB"})}
    (device,) = node_devices(said)
    assert (device.vendor, device.type, device.name) == ("nvidia", "gpu", "t4")
    assert [one.id for one in device.instances or ()] == ["a", "b"]
    assert device.attributes == {"memory": {"Int": 16, "Unit": "GiB"}}


@pytest.mark.parametrize(
    ("text", "attribute"),
    [
        ("3584", {"Int": 3584}),
        ("1.5 GHz", {"Float": 1.5, "Unit": "GHz"}),
        ("true", {"Bool": True}),
        ("7.5.1", {"String": "7.5.1"}),
        ("ampere", {"String": "ampere"}),
    ],
)
def test_attributes_have_their_types(text: str, attribute: dict[str, object]) -> None:
    assert attribute_of(text) == attribute


def test_a_task_finds_its_ids_in_the_variable_of_its_kind() -> None:
    said = {"nvidia/gpu/t4": Device(ids=["a"]), "acme/f-p-g-a/x": Device(ids=["b"])}
    said["acme/tpu/v1"] = Device(ids=["c"], env="TPUS")
    assert device_variables(said) == {
        "nvidia/gpu/t4": "NVIDIA_VISIBLE_DEVICES",
        "acme/f-p-g-a/x": "SERAI_DEVICE_F_P_G_A",
        "acme/tpu/v1": "TPUS",
    }


@pytest.mark.parametrize(
    ("label", "device", "words"),
    [
        ("gpu", Device(ids=["a"]), '"vendor/type/name"'),
        ("a/b/c", Device(), "names no device"),
        ("a/b/c", Device(ids=["x", "x"]), "twice"),
        ("a/b/c", Device(ids=["x,y"]), "comma"),
        ("a/b/c", Device(ids=["x"], env="1 2"), "no name of a variable"),
    ],
)
def test_what_is_wrong_with_a_block_is_said(label: str, device: Device, words: str) -> None:
    (problem,) = problems({label: device})
    assert words in problem and label in problem


@pytest.mark.parametrize(
    ("text", "cores"),
    [("", []), ("0,2-3", [0, 2, 3]), ("3-1", None), ("all", None), ("1,,2", [1, 2])],
)
def test_lists_of_cores(text: str, cores: list[int] | None) -> None:
    assert parse_cores(text) == cores
