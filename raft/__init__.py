"""A replicated log: Raft as a machine without clock, socket, disk or thread, and its storage.

    core       `RaftCore`, the driver's contract: begin reading here
    engine     the seam behind which other engines stand; pysyncobj_engine is one
    settings   timings and bounds
    messages   what goes over the wire, entries, configurations, snapshot metas
    output     what a host hands in and gets back
    replica    the state of a replica; the parts below are functions over it
    election   pre-vote, vote, hand-over          following    a follower's side
    replication  a leader's side                  reads        barriers and leases
    membership one change at a time               transfer     snapshots by chunk
    log, progress, journal   entries in memory; one follower; what waits for the disk
    storage    a replica's folder on real files, behind the seam disk:
    wal, recovery, records, segment   its log      snapshots   its snapshots

It imports nothing of the rest of the repository; of others only msgspec.
"""
