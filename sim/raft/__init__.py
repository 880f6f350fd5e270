"""Raft under simulated faults: `python -m sim.raft --seeds N`.

A small fast world around what ships: `raft.core.RaftCore`, the write-ahead log and the
snapshot store of `raft/` over a disk in memory, and `core.state.State` as the replicated
state, with its own dropping of repeated calls. Time, network, disks and clients are
simulated; a seed decides everything.

    world         time, network, who is up           disk      files that a power cut tears
    host          one server process                 storing   its log's and snapshots' workers
    faults        what goes wrong, drawn by seed     clients   who reads and writes registers
    registers     the commands of the workload
    watch         checkers that look at each step    history   what clients saw, as JSON lines
    linearizable  Wing-Gong-Lowe                     program   one seed, and the whole run
    clock         rates that differ                  protocol  checkers that know Raft
    durable       what must survive a crash          situations  corners to have been in

docs/raft-proof.md says what is checked and how to judge a history by other means.
"""
