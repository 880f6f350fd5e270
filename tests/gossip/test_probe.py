"""The probe cycle: SWIM sections 3.1 and 4.3, Lifeguard's LHA-Probe and buddy."""

from gossip_lone import Lone, S, alive, claim

from gossip.messages import ACK, ALIVE, DEAD, GOSSIP, NACK, PING, PING_REQUEST, SUSPECT, Packet
from gossip.settings import Settings


def failing_probe(lone: Lone):
    """Let one probe run into its timeout; return its target's name and the output."""
    ((_, ping),) = lone.tick_until_sent(PING)
    for _ in range(100):
        output = lone.tick()
        if any(p.kind == PING_REQUEST for _, p in output.packets) or output.exchanges:
            return ping, output
    raise AssertionError("no indirect probe")


def test_each_member_is_probed_once_a_round():
    """SWIM 4.3: round-robin, so the time to a first probe is bounded."""
    peers = [f"m{i}" for i in range(20)]
    lone = Lone(*peers)
    # the first round began with nobody there; the next two meet everybody twice
    probed = [p.target for o in lone.run(60) for _, p in o.packets if p.kind == PING][:60]
    for start in range(40):
        assert len(set(probed[start : start + 40])) == 20, "all within two rounds"


def test_members_of_many_incarnations_are_probed_as_any_other():
    lone = Lone("b", "c", "d")
    lone.hear(alive("b", 63), alive("c", 64), alive("d", 200))
    pings = [p.target for o in lone.run(30) for _, p in o.packets if p.kind == PING]
    assert min(map(pings.count, "bcd")) >= 9


def test_the_departed_are_not_probed():
    lone = Lone("b", "c")
    lone.hear(claim("c", DEAD))
    targets = {p.target for o in lone.run(20) for _, p in o.packets if p.kind == PING}
    assert targets == {"b"}


def test_silence_asks_others_and_a_stream():
    """SWIM 3.1: k members are asked after the timeout; memberlist's stream fallback."""
    lone = Lone("b", "c", "d", "e", "f")
    ping, output = failing_probe(lone)
    requests = [(a, p) for a, p in output.packets if p.kind == PING_REQUEST]
    assert len({a for a, _ in requests}) == 3
    assert all(p.target == ping.target and p.sequence == ping.sequence for _, p in requests)
    assert f"{ping.target}:1" not in {a for a, _ in requests}
    ((_, address, packet, timeout_us),) = output.exchanges
    assert address == f"{ping.target}:1" and packet.kind == PING and timeout_us == S // 2


def test_no_answer_by_the_end_is_a_suspicion():
    lone = Lone("b", "c", "d", "e", "f")
    ping, _ = failing_probe(lone)
    while not any(p.kind == PING for _, p in lone.tick().packets):
        pass
    assert lone.belief(ping.target) == ("suspect", 1)


def test_an_indirect_answer_clears():
    lone = Lone("b", "c", "d", "e", "f")
    ping, _ = failing_probe(lone)
    lone.packet(Packet(ACK, ping.sequence), "somebody:1")
    lone.run(0.6)
    assert lone.belief(ping.target) == ("alive", 1)


def test_a_stream_answer_clears_and_is_counted():
    lone = Lone("b", "c", "d", "e", "f")
    ping, output = failing_probe(lone)
    exchange_id = output.exchanges[0][0]
    lone.machine.on_exchanged(exchange_id, Packet(ACK, ping.sequence), lone.now_us)
    lone.run(0.6)
    assert lone.belief(ping.target) == ("alive", 1)
    assert lone.machine.counters.stream_fallbacks == 1


def test_an_answer_to_another_probe_is_none():
    lone = Lone("b")
    ping, _ = failing_probe(lone)
    lone.packet(Packet(ACK, ping.sequence + 1))
    lone.run(0.6, is_answered=False)
    assert lone.belief("b")[0] == "suspect"


def test_missing_nacks_are_our_own_fault():
    """Lifeguard, LHA-Probe: 3 asked, 1 nack: the health falls by 2."""
    lone = Lone("b", "c", "d", "e", "f")
    ping, _ = failing_probe(lone)
    lone.packet(Packet(NACK, ping.sequence))
    lone.run(0.6, is_answered=False)
    assert lone.machine.health_score == 2


def test_all_nacks_leave_the_health_alone():
    lone = Lone("b", "c", "d", "e", "f")
    ping, _ = failing_probe(lone)
    for _ in range(5):
        lone.packet(Packet(NACK, ping.sequence))
    lone.run(0.6, is_answered=False)
    assert lone.machine.health_score == 0
    assert lone.belief(ping.target)[0] == "suspect"


def test_bad_health_stretches_our_own_probes():
    """Lifeguard, LHA-Probe: interval and timeout times (score + 1)."""
    lone = Lone("b")
    for incarnation in (1, 2, 3):
        lone.hear(claim("a", SUSPECT, incarnation))
    assert lone.machine.health_score == 3
    lone.tick_until_sent(PING)
    start_us = lone.now_us
    while not any(packet.kind == PING for _, _, packet, _ in lone.tick().exchanges):
        pass
    assert lone.now_us - start_us == 4 * S // 2


def test_an_answered_probe_heals():
    lone = Lone("b")
    lone.hear(claim("a", SUSPECT))
    lone.run(5)
    assert lone.machine.health_score == 0


def test_the_suspect_hears_it_first_from_its_prober():
    """Lifeguard, buddy system: the accusation rides on the ping."""
    lone = Lone("b", "c")
    lone.run(10)
    lone.hear(claim("b", SUSPECT, by="c"))
    for _ in range(100):
        for address, packet in lone.tick().packets:
            if packet.kind == PING and address == "b:1":
                assert packet.updates[0].name == "b" and packet.updates[0].status == SUSPECT
                return
    raise AssertionError("b was not probed")


def test_the_suspect_hears_it_at_once_from_its_first_accuser():
    lone = Lone("b", "c", "d", "e", "f")
    ping, _ = failing_probe(lone)
    packets = []
    while lone.belief(ping.target)[0] == "alive":
        packets = lone.tick().packets
    told = [packet for address, packet in packets if address == f"{ping.target}:1"]
    assert [(p.kind, [(u.name, u.status) for u in p.updates]) for p in told] == [
        (GOSSIP, [(ping.target, SUSPECT)])
    ]


def test_whom_no_datagram_reaches_refutes_over_the_stream():
    """Found by theme "pairs" of sim.gossip, seed 300053: suspected, it answered streams in vain."""
    lone = Lone("b")
    accused = Packet(PING, 5, "b", "a", updates=(claim("a", SUSPECT),))
    ((_, answer),) = lone.request(accused).replies
    assert answer.kind == ACK and [(u.name, u.status) for u in answer.updates] == [("a", ALIVE)]
    assert answer.updates[0].incarnation == 2
    asker = Lone("a2", "b")
    asker.hear(claim("b", SUSPECT, by="a2"))
    streams = []
    while not any(address == "b:1" for _, address, _, _ in streams):
        streams = asker.tick().exchanges
    ((exchange_id, _, ping, _),) = streams
    assert [(u.name, u.status) for u in ping.updates] == [("b", SUSPECT)]
    reply = Packet(ACK, ping.sequence, "b", updates=(alive("b", 2),))
    asker.machine.on_exchanged(exchange_id, reply, asker.now_us)
    assert asker.belief("b") == ("alive", 2)


def test_who_slept_through_an_interval_accuses_nobody():
    lone = Lone("b")
    lone.tick_until_sent(PING)
    lone.now_us += 10 * S
    lone.machine.tick(lone.now_us)
    assert lone.belief("b") == ("alive", 1)
    assert lone.machine.health_score >= 1


def late_rounds(lone, late_us, count):
    """Let `count` probe periods begin so late, every ping answered; return the scores."""
    scores = []
    while len(scores) < count:
        lone.now_us = max(lone.now_us, lone.machine.deadline_us + late_us)
        lone.machine.tick(lone.now_us)
        for address, packet in lone.machine.take_output().packets:
            if packet.kind == PING:
                scores.append(lone.machine.health_score)
                lone.packet(Packet(ACK, packet.sequence), address)
    return scores


def test_who_runs_late_probes_slower_until_its_timing_is_fine_enough_for_that():
    """A starved process would take its own lag for the silence of others."""
    lone = Lone("b")
    assert late_rounds(lone, 100_000, 5)[-1] == 0, "a fifth of a timeout is no lag to speak of"
    assert max(late_rounds(lone, 300_000, 20)) == 2, "until 4 * 300 ms <= 500 ms * (score + 1)"
    assert max(late_rounds(lone, 9 * S, 20)) == 7
    assert late_rounds(lone, 0, 9)[-1] == 0, "it heals"


def test_who_judges_late_accuses_nobody():
    lone = Lone("b")
    lone.tick_until_sent(PING)
    end_us = lone.now_us + S
    while lone.machine.deadline_us < end_us:
        lone.tick()
    lone.now_us = end_us + 200_000
    lone.machine.tick(lone.now_us)
    assert lone.belief("b") == ("alive", 1) and lone.machine.health_score == 1


def test_probing_for_another_relays_the_answer():
    lone = Lone("b", "c")
    ((address, ping),) = lone.packet(Packet(PING_REQUEST, 77, "b", "c"), "b:1").packets
    assert address == "c:1" and ping.target == "c" and ping.sequence != 77
    ((address, ack),) = lone.packet(Packet(ACK, ping.sequence), "c:1").packets
    assert (address, ack.kind, ack.sequence) == ("b:1", ACK, 77)


def test_probing_for_another_in_vain_sends_a_nack_in_time():
    """Lifeguard, LHA-Probe: the nack comes at 80% of what the asker waits."""
    lone = Lone("b", "c")
    lone.packet(Packet(PING_REQUEST, 77, "b", "c"), "b:1")
    ((address, nack),) = lone.tick_until_sent(NACK)
    assert (address, nack.sequence) == ("b:1", 77)
    assert lone.now_us == 400_000


def test_nobody_aims_our_probes_at_a_stranger_or_fills_us_with_them():
    lone = Lone("b", "c", settings=Settings(relays_max=5))
    assert not lone.packet(Packet(PING_REQUEST, 1, "b", "zz")).packets
    for sequence in range(10):
        lone.packet(Packet(PING_REQUEST, sequence, "b", "c"))
    assert (lone.dropped("unknown_target"), lone.dropped("too_many_relays")) == (1, 5)


def test_a_ping_for_another_name_is_not_answered():
    """The address may be a former member's: it shall be found dead."""
    lone = Lone("b")
    assert not lone.packet(Packet(PING, 1, "b", "former")).packets
    (reply,) = lone.request(Packet(PING, 1, "b", "former")).replies
    assert reply[1].kind == NACK
    (reply,) = lone.request(Packet(PING, 1, "b", "a")).replies
    assert reply[1].kind == ACK


def test_rumours_ride_on_pings_and_acks():
    """SWIM 4.1: dissemination costs no packets of its own."""
    lone = Lone("b", settings=Settings(gossip_interval_us=10 * S))
    ((_, ack),) = lone.packet(Packet(PING, 1, "b", "a")).packets
    assert [u.name for u in ack.updates] == ["b"] and ack.updates[0].status == ALIVE
    lone.hear(alive("c"))
    assert lone.tick_until_sent(PING)[0][1].updates
