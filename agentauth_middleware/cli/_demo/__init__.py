"""``agentauth demo``: the whole protocol on real HTTP, between separate processes.

``command`` is where it begins, and ``play`` the course of it. ``stage`` says which
servers there are and for which ``users``, ``servers`` starts and stops them, and
``applications`` is what two of them run. ``walk`` is the agent, ``narrator`` tells what
it does, ``trial`` leaves the servers to a person, and ``interrupts`` may end it all.
The agent uses nothing of this package: what it needs to know it reads from answers.
"""
