"""One machine and nothing around it: claims go in, outputs come out."""

import random

from gossip.machine import GossipMachine
from gossip.messages import (
    ACK,
    ALIVE,
    GOSSIP,
    SYNC_TABLE,
    Identity,
    Packet,
    Update,
    make_update,
)
from gossip.settings import LAN, Settings
from gossip.views import MemberView, Output

S = 1_000_000


def alive(name: str, incarnation: int = 1, address: str = "", **meta: str) -> Update:
    identity = Identity(name, address or f"{name}:1", meta)
    return make_update(name, incarnation << 2 | ALIVE, name, identity)


def claim(name: str, status: int, incarnation: int = 1, by: str = "b") -> Update:
    return make_update(name, incarnation << 2 | status, by)


class Lone:
    def __init__(self, *peers: str, settings: Settings = LAN, seed: int = 1, **options: object):
        self.now_us = 0
        self.machine = GossipMachine(
            name="a",
            address="a:1",
            meta={},
            settings=settings,
            rng=random.Random(seed),
            now_us=0,
            **options,
        )
        if peers:
            self.hear(*(alive(peer) for peer in peers))

    def hear(self, *updates: Update, source: str = "b:1") -> Output:
        return self.packet(Packet(GOSSIP, updates=updates), source)

    def packet(self, packet: Packet, source: str = "b:1") -> Output:
        self.machine.on_packet(source, packet, self.now_us)
        return self.machine.take_output()

    def request(self, packet: Packet) -> Output:
        self.machine.on_exchange_request(7, "b:9", packet, self.now_us)
        return self.machine.take_output()

    def give_table(self, *rows: Update, sender: str = "b") -> Output:
        return self.request(Packet(SYNC_TABLE, sender=sender, updates=rows))

    def tick(self) -> Output:
        """Run to the next deadline."""
        self.now_us = max(self.now_us, self.machine.deadline_us)
        self.machine.tick(self.now_us)
        return self.machine.take_output()

    def tick_until_sent(self, kind: int) -> list[tuple[str, Packet]]:
        for _ in range(1_000):
            sent = [(a, p) for a, p in self.tick().packets if p.kind == kind]
            if sent:
                return sent
        raise AssertionError(f"no packet of kind {kind} was ever sent")

    def run(self, seconds: float, *, is_answered: bool = True) -> list[Output]:
        """Tick for so long; every ping of ours is answered, or none."""
        end_us = self.now_us + int(seconds * S)
        outputs = []
        while self.machine.deadline_us <= end_us:
            output = self.tick()
            outputs.append(output)
            for address, packet in output.packets:
                if is_answered and packet.target:
                    outputs.append(self.packet(Packet(ACK, packet.sequence), address))
            for exchange_id, *_ in output.exchanges:
                self.machine.on_exchanged(exchange_id, None, self.now_us)
        self.now_us = end_us
        return outputs

    def view(self, name: str) -> MemberView:
        view = self.machine.member(name)
        assert view is not None, f"{name} is unknown"
        return view

    def belief(self, name: str) -> tuple[str, int]:
        view = self.view(name)
        return view.status.value, view.incarnation

    @property
    def own_incarnation(self) -> int:
        return self.view("a").incarnation

    def dropped(self, reason: str) -> int:
        return self.machine.counters.dropped.get(reason, 0)
