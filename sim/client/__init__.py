"""One node's client machine under random groups, users, servers and crashes.

    python -m sim.client --seeds N

    jobs.py        random groups of tasks, and how their processes behave
    world.py       time, the agent's lives, its disk, its processes
    servers.py     the servers, as far as a client sees them
    story.py       what users and servers do, and what goes wrong
    policy.py      the restart policy, as documented
    lives.py       what one allocation was promised: order, restarts, ends
    offers.py      its services, their checks, its health
    registry.py    what the servers have registered, against what is offered
    watch.py       holds every effect, process and report against the promises
    rest.py        judges the node once nothing is on its way
    program.py     the seed program

The judges (policy, lives, offers, watch, rest) know job files and effects, nothing of how
core/client decides. The page for readers is docs/client-proof.md.
"""
