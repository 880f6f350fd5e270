"""From single nodes to shapes with a count.

Nodes of one kind differ by a few MiB of memory and by what their disks have free. So where
a datacenter has many shapes, sizes are rounded down, finely at first, until they are few.
"""

from collections import Counter
from typing import Final

import msgspec

from sim.live.inventory import LiveNode, fit_name, free_name
from sim.plans import NodeShape

SHAPES_MAX: Final = 12  # of one datacenter, if rounding can bring it about
_BITS: Final = (0, 7, 5, 3, 1)  # binary digits that are kept; 0 = all


def shapes_of(nodes: list[LiveNode]) -> tuple[NodeShape, ...]:
    """Return the shapes of a datacenter's nodes, the most frequent first."""
    counts: Counter[LiveNode] = Counter()
    for bits in _BITS:
        counts = Counter(_rounded(node, bits) for node in nodes)
        if len(counts) <= SHAPES_MAX:
            break
    ordered = sorted(counts.items(), key=lambda item: (-item[1], msgspec.structs.astuple(item[0])))
    shapes: list[NodeShape] = []
    taken = ["server"]  # names the servers
    for node, count in ordered:
        wanted = node.node_class or (node.pool if node.pool != "default" else "node")
        label = free_name(fit_name(wanted), taken)
        taken.append(label)
        shapes.append(
            NodeShape(
                label=label,
                count=count,
                cpu=node.cpu,
                memory=node.memory,
                disk=node.disk,
                node_class=node.node_class,
                pool=node.pool,
                attributes=dict(node.attributes),
                meta=dict(node.meta),
                drivers=node.drivers,
            )
        )
    return tuple(shapes)


def _rounded(node: LiveNode, bits: int) -> LiveNode:
    if not bits:
        return node
    return msgspec.structs.replace(
        node,
        cpu=_down(node.cpu, bits),
        memory=_down(node.memory, bits),
        disk=_down(node.disk, bits),
    )


def _down(value: int, bits: int) -> int:
    """Return the value with its first binary digits kept: at most 2 ** (1 - bits) are lost."""
    lost = max(0, value.bit_length() - bits)
    return value >> lost << lost
