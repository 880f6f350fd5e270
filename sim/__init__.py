"""The simulator: the shipped machines on virtual time, a simulated network and disk.

Nothing here decides what an agent would decide. The simulator is a host like
core/agent: it builds the same machines with the same constructor calls, carries out
their effects, and hands back what happened. Time is an integer of microseconds; events
have a total order (time, sequence); all randomness comes from generators seeded from
the run's seed. So a run repeats bit for bit, and its trace has a hash.
"""
