"""Gossip under faults: `python -m sim.gossip`, on the shipped machines and virtual time.

    python -m sim.gossip --seeds 1000 [--workers 2]   seed by seed (sim.seeds' protocol)
    python -m sim.gossip lifeguard                    what Lifeguard's parts are worth
    python -m sim.gossip isolation --seeds 1000       cut off for an hour, back within 60 s
    python -m sim.gossip fuzz --minutes 10            broken packets against decoder and machine
    python -m sim.gossip sockets --minutes 10         200 members on real sockets of loopback

A seed draws a pool, its links and one *theme*: a kind of trouble, with the promises that
hold under it. Checkers look at members' views and at packets from outside; they take their
bounds from GOSSIP.md and the papers, not from the code they judge.

    pool        a `GossipWorld` that keeps and repeats packets, and knows the truth
    watch       the checkers
    themes      the kinds of trouble
    codec       packets of the pool as bytes: labels, keys, damage
    program     one seed from beginning to end
    lifeguard, isolation, fuzz, sockets      the other commands
"""
