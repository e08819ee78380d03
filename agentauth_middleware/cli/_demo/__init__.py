"""``agentauth demo``: the whole protocol on real HTTP, between separate processes.

``servers`` starts and stops the processes, ``applications`` is what two of them run,
``walk`` is the agent, ``narrator`` tells what it does, ``command`` puts them together.
The agent uses nothing of this package: what it needs to know it reads from answers.
"""
