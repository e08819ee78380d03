"""The most that each row may show; of rates, the least.

A target that was set in microseconds was set on a machine where an RS256 check takes
17.7 of them; it stands here as the multiple of that check, which is what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping

_RS256 = 17.7

REMEMBERED: Mapping[str, float] = {"ASGI": 1.7, "WSGI": 1.8}
"""What the middleware adds to the bare application, in what the floor adds to it."""
NEW_THROUGH = 1.35
PUBLIC = 0.5
"""Likewise."""
POLICY = 0.5 / _RS256
"""In RS256 checks, as the rest unless it says; beyond a middleware that demands
nothing."""
REFUSED = 8.0 / _RS256
OTHER_SESSION = 2.5 / _RS256
OTHER_KEY = 4.0 / _RS256
OTHER_JWT = 12.0 / _RS256
UNKNOWN_KID = 0.5
FORGED = 1.4
JUNK = 5.0
NEW: Mapping[str, float] = {"RS256": 1.8, "ES256": 1.3, "EdDSA": 1.2}
"""In checks of the same algorithm."""
LOOK_UP = 2.5 / _RS256
BYTES_PER_TOKEN = 1300.0
COLLECTION_MS = 40.0
IMPORT = 1.25
"""In imports of what the middleware depends on."""

READY = 5.0
"""Seconds until a process knows a million cut-offs."""
READY_AFTER_COMPACTION = 0.3
CUT_OFFS_MB = 150.0
WITH_CUT_OFFS = 1.1
"""In requests with few: as long, but for the noise."""

INTROSPECTION = 6.5
"""In exchanges with the same server over a bare socket."""
CALLS_FOR_ONE_TOKEN = 1.0
CALLS_FOR_MORE = 0.0

FETCHES_WHEN_COLD = 1.0
FETCHES_FOR_A_NEW_KEY = 1.0
FETCHES_FOR_RANDOM_KIDS = 5.0
KNOWN_KEY_MEANWHILE = 1.1
"""In requests while no reply is held back: as long, but for the noise."""
STALL_MS = 15.0

TENANTS_REMEMBERED = 1.1
"""In requests to a middleware with one issuer: as long, but for the noise."""
TENANTS_NEW = 1.15
"""What lies in a thousand places is not at hand: of the bare check with a thousand
keys that makes 1.03."""

RATE_REMEMBERED = 0.73
"""At least, of the rate without a middleware."""
RATE_NEW = 0.40
P99 = 1.3
MORE_MEGABYTES = 8.0
