"""The scheduler under random operators and faults: `python -m sim.scheduler --seeds N`.

    reference.py   a slow, obvious scheduler on the records alone
    leader.py      the shipped parts of a leader around one replica, and time
    clients.py     the nodes' side, with the shipped watch of health
    jobs.py        random nodes and jobs
    story.py       what the operator does, and what goes wrong
    ledger.py      judges each entry
    verify.py      judges each plan
    rest.py        judges the datacenter whenever nothing is on its way
    program.py     the seed program

The page for readers is docs/scheduler-proof.md.
"""
