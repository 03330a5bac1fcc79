"""A fleet on one machine: names and addresses that collide with nothing, shares that add up, a record that lasts."""

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.app.config import CellConfig, prepare_data_dir
from corral.app.fleet import layout
from corral.app.fleet.layout import MOST, Fleet
from corral.base.errors import CorralError

SUBNET = "10.80.7.0/24"
NETWORKS = st.builds(
    lambda base, prefix: ipaddress.IPv4Network((base, prefix), strict=False),
    st.integers(int(ipaddress.IPv4Address("10.79.0.0")), int(ipaddress.IPv4Address("10.89.0.0"))),
    st.integers(14, 32),
)


def fleet(directory: Path, count: int = 3, **capacity: int) -> Fleet:
    return Fleet(CellConfig(directory), count, SUBNET, capacity)


def test_the_largest_fleet_has_names_and_addresses_for_all_its_machines(tmp_path: Path) -> None:
    machines = fleet(tmp_path, MOST).machines
    network = ipaddress.IPv4Network(SUBNET)
    addresses = {machine.address for machine in machines}
    assert len(addresses) == len({machine.link for machine in machines}) == MOST
    assert all(ipaddress.IPv4Address(address) in network for address in addresses)
    assert not addresses & {machines[0].gateway, str(network[0]), str(network[-1])}
    names = [fleet(tmp_path).bridge, *(machine.link for machine in machines)]
    assert max(map(len, names)) <= 15, "IFNAMSIZ without its final zero"


def test_hardware_addresses_are_unicast_and_of_nobodys_range(tmp_path: Path) -> None:
    found = {layout.hardware_address(machine.link) for machine in fleet(tmp_path, MOST).machines}
    assert len(found) == MOST
    assert all(int(address[:2], 16) & 0b11 == 0b10 for address in found)


@given(st.text(min_size=1, max_size=8), st.lists(NETWORKS, max_size=20))
def test_a_subnet_overlaps_nothing_that_is_taken(name: str, taken: list[ipaddress.IPv4Network]) -> None:
    space = ipaddress.IPv4Network("10.80.0.0/13")
    try:
        chosen = ipaddress.IPv4Network(layout.free_subnet(name, taken))
    except CorralError:
        left = [space]
        for network in taken:
            left = [part for whole in left for part in _without(whole, network)]
        assert all(part.prefixlen > 24 for part in left)
        return
    assert chosen.subnet_of(space)
    assert not any(chosen.overlaps(network) for network in taken)


def _without(whole: ipaddress.IPv4Network, gone: ipaddress.IPv4Network) -> list[ipaddress.IPv4Network]:
    if whole.subnet_of(gone):
        return []
    return list(whole.address_exclude(gone)) if gone.subnet_of(whole) else [whole]


@given(st.integers(1, MOST), st.integers(0, 1 << 20), st.integers(0, 1 << 40), st.integers(0, 16))
def test_shares_are_equal_and_no_more_than_there_is(count: int, cpu: int, memory: int, devices: int) -> None:
    real = {"cpu": cpu, "memory": memory, "ephemeral-storage": memory, "nvidia.com/gpu": devices}
    shares = [layout.share(real, count, index) for index in range(1, count + 1)]
    assert len({share["cpu"] for share in shares}) == 1
    assert sum(share["memory"] for share in shares) <= memory
    assert sum(share.get("nvidia.com/gpu", devices) for share in shares) == devices


def test_a_fleet_is_remembered_and_grows_but_does_not_shrink(tmp_path: Path) -> None:
    config = CellConfig(tmp_path)
    assert layout.load(config) is None
    layout.save(fleet(tmp_path, cpu=4000))
    found = layout.load(config)
    assert found == fleet(tmp_path, cpu=4000)
    assert layout.grown(found, 0, {}) == found
    assert layout.grown(found, 5, {}).count == 5
    assert layout.grown(found, 3, {"cpu": 1000}).capacity == {"cpu": 1000}
    with pytest.raises(CorralError, match=r"it has 3") as told:
        layout.grown(found, 2, {})
    assert "--machines 3" in told.value.remedy


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machines": 3, "subnet": "x", "capacity": {}}'])
def test_a_record_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / layout.FILE).write_text(text)
    with pytest.raises(CorralError, match="cannot read") as told:
        layout.load(CellConfig(tmp_path))
    assert str(tmp_path / layout.FILE) in told.value.message


def test_a_machine_is_found_by_its_name(tmp_path: Path) -> None:
    assert fleet(tmp_path).find("m2").address == "10.80.7.12"
    with pytest.raises(CorralError, match="cannot find the machine m4") as told:
        fleet(tmp_path).find("m4")
    assert told.value.remedy == "the fleet has m1 to m3"


def test_a_machine_boots_when_its_network_does(tmp_path: Path) -> None:
    config = fleet(tmp_path).find("m1").config
    prepare_data_dir(config)
    assert config.boot == "", "the kernel's own"
    (config.run_dir / "boot_id").write_text("b1\n")
    assert config.boot == "b1"
