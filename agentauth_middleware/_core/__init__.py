"""What decides: plain values, rules and generators.

Nothing here does I/O, reads a clock, knows an event loop or starts a thread. What
has to be waited for is asked of a driver with an operation (``operations.py``).
"""
