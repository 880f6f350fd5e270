"""`python -m sim.gossip fuzz`: broken packets against the decoders and a machine.

Packets of a real pool are encoded and then damaged: bits flipped, pieces cut, doubled, moved,
lengths and numbers made huge, parts of different packets spliced, and all of that with a
checksum that fits again, so that the damage reaches the parser. What still decodes goes on to
a live machine. Judged, for each:

    raise     the decoder raises nothing but WireError, the machine nothing at all
    hang      nothing takes more processor time than `SLOW_S`
    growth    the packet is no larger than a small multiple of its bytes; the machine's
              tables and queues stay within their bounds

A finding is written to `--corpus` (tests/gossip/corpus), where the tests replay it for ever.
"""

import argparse
import hashlib
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from zlib import crc32

from gossip.keyring import Keyring
from gossip.machine import GossipMachine
from gossip.messages import Digest, Identity, Packet, Update, make_update
from gossip.settings import Settings
from gossip.wire import STREAM_BYTES_MAX, WireError, decode, encode
from sim.gossip_world import GossipWorld
from sim.lastline import last_line

LABEL: Final = "fuzz"
SLOW_S: Final = 2.0
GROWTH: Final = 64  # objects a byte of input may become
MEMBERS_MAX: Final = 200
FULL_MINUTES: Final = 10.0
CORPUS: Final = Path("tests/gossip/corpus")


def seeds_of(rng: random.Random) -> list[bytes]:
    """Return encoded packets of a pool that joins, gossips, probes and loses a member."""
    packets: list[Packet] = []
    world = GossipWorld(seed=1, settings=Settings(full_table_max_members=4))

    def keep(flight: tuple[object, object, object]) -> None:
        if isinstance(flight[2], Packet) and rng.random() < 0.05:
            packets.append(flight[2])

    world.observe(keep)
    names = world.form(12)
    world.do(names[0], lambda m, now_us: m.publish_digest("dc", 1, 1, b"x" * 700, now_us))
    world.kill(names[1])
    world.run(30)
    machine = world.machine(names[2])
    row = make_update("m", 8, "m", Identity("m", "m:1", {"role": "server"}))
    for kind in range(12):
        packets.append(Packet(kind, 7, "a", "b", (row,) * 5, (Digest("o", 1, 1, 5, b"d"),)))
    packets.append(Packet(6, 1, "a", summary=bytes(range(256)) * 8))
    packets.append(Packet(7, 1, "a", buckets=bytes(range(256)), data=b"\x93\x01"))
    packets.append(Packet(5, 1, "a", updates=tuple(_row(n) for n in range(len(machine.members())))))
    return [
        encode(p, label=LABEL, is_stream=is_stream) for p in packets for is_stream in (False, True)
    ]


def _row(number: int) -> Update:
    name = f"n{number}"
    return make_update(name, 4 + number, name, Identity(name, f"{name}:1", {}))


def damage(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return a broken packet."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not data:
            break
        at = rng.randrange(len(data))
        kind = rng.randrange(9)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xC1, 0xDD, 0xDF, 0xFF))
        elif kind == 2:
            del data[at : at + rng.choice((1, 2, 8, 64))]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 32)))
        elif kind == 4:
            data[at:at] = data[at : at + rng.choice((4, 64, 512))]
        elif kind == 5:
            data[at:at] = b"\xff" * rng.choice((4, 5, 8))  # lengths and numbers, huge
        elif kind == 6:
            other = rng.choice(seeds)
            data[at:] = other[rng.randrange(len(other)) :]
        elif kind == 7:
            data[at:at] = b"\x91" * rng.choice((16, 400, 1_000))  # nested arrays
        else:
            del data[at:]
    return _mended(bytes(data)) if rng.random() < 0.8 else bytes(data)


def _mended(data: bytes) -> bytes:
    """Give a clear packet a header and a checksum that fit its damaged body."""
    header = encode(Packet(0), label=LABEL)[: 5 + len(LABEL)]
    payload = data[len(header) + 4 :]
    return header + crc32(payload, crc32(header)).to_bytes(4, "big") + payload


class Judge:
    """A decoder and a live machine that get everything."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._now_us = 0
        self._keyring = Keyring([bytes(32)])
        self._machine = self._new_machine()

    def _new_machine(self) -> GossipMachine:
        return GossipMachine(
            name="m0001",
            address="m0001:4648",
            meta={},
            settings=Settings(members_max=MEMBERS_MAX, digest_origins_max=64, relays_max=64),
            rng=random.Random(1),
            now_us=0,
        )

    def judge(self, data: bytes) -> str:
        """Return what is wrong with how these bytes were taken, or ""."""
        began_s = time.process_time()
        try:
            problem = self._judge(data)
        except Exception as error:
            problem = f"raise: {type(error).__name__}: {error}"
        took_s = time.process_time() - began_s
        if not problem and took_s > SLOW_S:
            problem = f"hang: {took_s:.1f} s"
        return problem

    def _judge(self, data: bytes) -> str:
        for keyring in (None, self._keyring):
            try:
                packet = decode(data, label=LABEL, keyring=keyring)
            except WireError as error:
                self.counts[error.reason] += 1
                continue
            size = len(packet.updates) + len(packet.digests) + len(packet.summary)
            if size > GROWTH * len(data):
                return f"growth: {len(data)} bytes became {size} things"
            self.counts["decoded"] += 1
            return self._feed(packet)
        return ""

    def _feed(self, packet: Packet) -> str:
        machine = self._machine
        self._now_us += 1_000
        machine.on_packet("x:1", packet, self._now_us)
        machine.take_output()
        machine.on_exchange_request(1, "x:1", packet, self._now_us)
        replies = machine.take_output().replies
        if len(replies) != 1:
            return f"raise: one request got {len(replies)} replies"
        if len(encode(replies[0][1], label=LABEL, is_stream=True)) > STREAM_BYTES_MAX:
            return "growth: a reply is too large for a stream"
        machine.tick(self._now_us)
        for exchange_id, *_ in machine.take_output().exchanges:
            machine.on_exchanged(exchange_id, packet, self._now_us)
        machine.take_output()
        known = len(machine.members())
        if known > MEMBERS_MAX or machine.rumours_queued > known + 1:
            return f"growth: {known} members, {machine.rumours_queued} rumours"
        if len(machine.digests(self._now_us)) > 64 or len(machine.counters.dropped) > 40:
            return "growth: digests or counters"
        if self.counts["decoded"] % 20_000 == 0:
            self._machine = self._new_machine()  # so that early packets meet an empty one too
        return ""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sim.gossip fuzz", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--minutes", type=float, default=FULL_MINUTES)
    parser.add_argument("--start", type=int, default=0, help="seed of the damage")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="where findings are kept")
    options = parser.parse_args(arguments)
    rng = random.Random(f"gossip/fuzz/{options.start}")
    judge, seeds = Judge(), seeds_of(rng)
    findings: list[str] = []
    tried = 0
    end_s = time.monotonic() + options.minutes * 60
    while time.monotonic() < end_s and len(findings) < 20:
        data = damage(rng, seeds)
        tried += 1
        problem = judge.judge(data)
        if problem:
            name = hashlib.sha256(data).hexdigest()[:16]
            options.corpus.mkdir(parents=True, exist_ok=True)
            (options.corpus / name).write_bytes(data)
            findings.append(f"{name}: {problem}")
            print(findings[-1], file=sys.stderr)
    for reason, count in judge.counts.most_common():
        print(f"{reason:20} {count:>10}")
    is_reduced = options.minutes < FULL_MINUTES
    figures = {"tried": tried, "findings": findings, "outcomes": dict(judge.counts)}
    sizes = {"minutes": options.minutes, "start": options.start, "seeds": len(seeds)}
    print(last_line(figures, sizes=sizes, samples=tried, is_reduced=is_reduced))
    if findings:
        return 1
    return 3 if is_reduced else 0
