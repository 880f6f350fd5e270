"""The trio side of a client: real processes, logs, checks, files, durable client state.

executor    `Executor`: takes the effects of core.client.effects, delivers the events
supervisor  a program of its own: starts tasks, pumps their logs, keeps exit codes
launcher    the agent's end of the supervisor
runs        records of runs on disk; finding a process again after a restart
commands    a task's spec -> program, arguments, environment, folder, user
folders     an allocation's folders
files       reading logs and files out of them
probes      tcp and http checks
usage       what tasks and the machine use
store       the client's saved records
"""
