"""The federation under simulated faults: `python -m sim.federation --seeds N`.

    world.py       time, the network between datacenters, gossip's digests
    datacenter.py  the shipped parts of two servers around one log
    clients.py     nodes that run processes, which begin and end late
    workload.py    users: register, scale, stop, purge, and repeat what was not answered
    faults.py      the adversary
    watch.py       looks at logs and processes all the time
    ending.py      looks at everything once it has been quiet
    program.py     the seed program

The page for readers is docs/federation-proof.md.
"""
