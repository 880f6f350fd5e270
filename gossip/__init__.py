"""SWIM with Lifeguard: membership, failure detection and small rumours, usable alone.

Theory of operation
-------------------
Every member probes one other member each interval (SWIM, section 3.1). A member that
answers neither the probe, nor through others, nor over a stream, is *suspected*; only
when the suspicion outlives its timeout it is *dead* (SWIM, section 4.2; Lifeguard,
"LHA-Suspicion"). Whatever a member learns rides on the packets it sends anyway, and on
gossip in between (section 4.1). Push-pull over a stream repairs what was lost.

What a member believes of another is one integer, `key = incarnation << 2 | status`, and
the larger key wins. So views form a lattice: any order, loss and duplication of rumours
leads to the same end. Only a member itself raises its incarnation.

Where things live:

    messages       packets and what travels in them
    views          what comes out of a machine: output, events, members
    settings       LAN and WAN profiles
    machine        `GossipMachine`: the verbs a host calls; composes the parts below
    local          what the parts of one machine share
    membership     who is there: the table, and the rules by which it changes
    refutation     what others say of this member itself
    directory      names and identities interned once, for all machines of a process
    probe          direct, indirect and stream probes; who is probed next
    suspicion      how long a suspect has to refute
    awareness      how much a member trusts its own timing
    dissemination  the queue of rumours and who hears them
    exchange       push-pull, joining, and finding back after isolation
    digests        a queue of its own for one opaque record per origin
    wire, keyring  bytes: versioned packets, checksums, encryption
    key_messages   questions about keyrings, and what would cut members off
    inbound        what waits for a machine that was too slow: newest first
    addresses      "host:port" as a text
    endpoint       a trio host for UDP and TCP
    rotation       the keys of a running pool, changed over its streams
    host           a complete member of one pool; beyond these three nothing knows trio

`gossip` imports nothing of `core`, `raft` or `sim`.
"""
