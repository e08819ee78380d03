"""The most that each row may show.

A target that was set in microseconds was set on a machine where an RS256 check takes
17.7 of them; it stands here as the multiple of that check, which is what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping

_RS256 = 17.7

REMEMBERED: Mapping[str, float] = {"ASGI": 0.17, "WSGI": 0.14}
"""Beyond the bare application, in RS256 checks; likewise the rest, unless it says."""
PUBLIC = 1.0 / _RS256
REFUSED = 8.0 / _RS256
UNKNOWN_KID = 0.4
FORGED = 1.4
JUNK = 5.0
NEW: Mapping[str, float] = {"RS256": 1.8, "ES256": 1.3, "EdDSA": 1.2}
"""In checks of the same algorithm."""
LOOK_UP = 2.5 / _RS256
BYTES_PER_TOKEN = 1300.0
COLLECTION_MS = 40.0
IMPORT = 1.25
"""In imports of what the door depends on."""
