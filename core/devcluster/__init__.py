"""A whole federation on one machine: processes, addresses, and links that can be cut.

Every agent is a process of its own with its own data folder. Agent N of datacenter D
binds `127.B.D.N` and advertises its *face* `127.B.(100+D).N`, an address that belongs to
the relay. The relay passes everything that reaches a face on to the agent behind it, and
makes it come from the sender's face. So both ends see advertised addresses only, every
packet between two agents crosses the relay, and the relay knows both ends from the two
addresses alone: that is all it takes to cut or slow a link, without root.

    plan = Plan.build(["eu", "us"], servers=..., ...)     layout.py: who is where
    Relay(plan.endpoints(), links)                        relay.py, links.py
    Supervisor(plan, folder, report)                      supervisor.py: the processes
    control.ask(folder, "cut", ["eu", "us"])              from another terminal

The agents need nothing for this but what they have anyway: they bind what they send from
to `bind_addr`, and tell others what `advertise` says. It needs Linux, where all of 127/8
is local.
"""
