"""Functions on network prefixes."""

import ipaddress
from typing import Any, Final

from core.jobspec.hcl.functions.function import Function
from core.jobspec.hcl.values import ValueProblem, to_int, to_string

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(prefix: Any) -> Network:
    text = to_string(prefix)
    if "/" not in text:
        raise ValueProblem(f'"{text}" is not a prefix such as 10.0.0.0/8')
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ValueProblem(str(error)) from None


def _cidrhost(prefix: Any, number: Any) -> str:
    network, index = _network(prefix), to_int(number)
    if not -network.num_addresses <= index < network.num_addresses:
        raise ValueProblem(f"{network} has no host {index}")
    return str(network[index])


def _cidrnetmask(prefix: Any) -> str:
    network = _network(prefix)
    if network.version != 4:
        raise ValueProblem("only an IPv4 prefix has a netmask")
    return str(network.netmask)


def _subnet(network: Network, bits: int, number: int) -> str:
    length = network.prefixlen + bits
    if bits < 0 or length > network.max_prefixlen or not 0 <= number < 1 << bits:
        raise ValueProblem(f"{network} has no subnet {number} of {bits} more bits")
    start = int(network.network_address) + (number << (network.max_prefixlen - length))
    address = type(network.network_address)(start)
    return f"{address}/{length}"


def _cidrsubnet(prefix: Any, bits: Any, number: Any) -> str:
    return _subnet(_network(prefix), to_int(bits), to_int(number))


def _cidrsubnets(prefix: Any, *widths: Any) -> list[str]:
    network = _network(prefix)
    at, end = int(network.network_address), int(network.broadcast_address)
    result = []
    for width in widths:
        length = network.prefixlen + to_int(width)
        if not network.prefixlen < length <= network.max_prefixlen:
            raise ValueProblem(f"{network} can't be divided by {to_int(width)} bits")
        size = 1 << (network.max_prefixlen - length)
        at = -(-at // size) * size
        if at + size - 1 > end:
            raise ValueProblem(f"{network} has no room for all of them")
        result.append(f"{type(network.network_address)(at)}/{length}")
        at += size
    return result


FUNCTIONS: Final = {
    "cidrhost": Function(_cidrhost, 2, 2),
    "cidrnetmask": Function(_cidrnetmask, 1, 1),
    "cidrsubnet": Function(_cidrsubnet, 3, 3),
    "cidrsubnets": Function(_cidrsubnets, 1),
}
