"""How fast the middleware is, always beside the limit: ``python -m benchmarks``.

Times vary from machine to machine and from minute to minute, so they are judged by
ratios within one run. The limits stand in every round of it: the bare application,
and the bare signature check of ``cryptography``.

``scene`` builds what is measured, with the public constructors and nothing faked;
``rounds`` takes turns and reads the clock; each of the other modules fills a group of
rows; ``report`` prints them and writes them down.
"""
