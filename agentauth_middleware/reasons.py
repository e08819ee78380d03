"""Reason codes: why a request was refused, in one word for logs, alerts and tests.

Stable: a code keeps its meaning. Clients never see one. ``docs/refusals.md`` says when
each is used.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Reason"]


class Reason(StrEnum):
    """Every code that the library gives; equal to its text."""

    # The request
    TRACE_METHOD = "trace_method"
    MALFORMED_TARGET = "malformed_target"
    AMBIGUOUS_PATH = "ambiguous_path"
    DUPLICATE_AUTHORIZATION = "duplicate_authorization"
    TWO_METHODS = "two_methods"
    MALFORMED_CREDENTIAL = "malformed_credential"
    CREDENTIAL_TOO_LONG = "credential_too_long"
    QUERY_TOO_LONG = "query_too_long"
    NO_CREDENTIALS = "no_credentials"

    # The token
    MALFORMED = "malformed"
    ENCRYPTED_TOKEN = "encrypted_token"
    WRONG_TOKEN_TYPE = "wrong_token_type"
    UNKNOWN_TOKEN_KIND = "unknown_token_kind"
    UNKNOWN_ISSUER = "unknown_issuer"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_CLIENT = "wrong_client"
    ALG_NOT_ALLOWED = "alg_not_allowed"
    UNKNOWN_KID = "unknown_kid"
    KEY_MISMATCH = "key_mismatch"
    BAD_SIGNATURE = "bad_signature"
    WRONG_AUDIENCE = "wrong_audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    CONTRADICTORY_PROFILES = "contradictory_profiles"
    UNKNOWN_ACTOR_ISSUER = "unknown_actor_issuer"
    INACTIVE_TOKEN = "inactive_token"
    INTROSPECTION_MISMATCH = "introspection_mismatch"
    REVOKED = "revoked"
    SENDER_CONSTRAINED = "sender_constrained"

    # What the caller may do
    STEP_UP_REQUIRED = "step_up_required"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    SCOPE_WITHHELD = "scope_withheld"
    USER_REQUIRED = "user_required"
    AGENT_REQUIRED = "agent_required"
    AGENT_FORBIDDEN = "agent_forbidden"
    AGENT_NOT_ALLOWED = "agent_not_allowed"
    UNMATCHED_PATH = "unmatched_path"

    # Too many requests
    KEYS_COOLING_DOWN = "keys_cooling_down"
    TOO_MANY_INACTIVE = "too_many_inactive"
    INTROSPECTION_BUSY = "introspection_busy"
    INTROSPECTION_THROTTLED = "introspection_throttled"
    INTROSPECTION_HELD_OFF = "introspection_held_off"
    INTROSPECTION_BAD_REQUEST = "introspection_bad_request"
    INTROSPECTION_FORBIDDEN = "introspection_forbidden"
    UNKNOWN_ISSUER_LOOKUP_FAILED = "unknown_issuer_lookup_failed"

    # Servers that do not answer
    KEYS_UNREACHABLE = "keys_unreachable"
    KEYS_UNUSABLE = "keys_unusable"
    METADATA_NOT_FOUND = "metadata_not_found"
    METADATA_UNUSABLE = "metadata_unusable"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_TOO_LARGE = "upstream_too_large"
    UPSTREAM_REFUSED = "upstream_refused"
    INTROSPECTION_FAILED = "introspection_failed"
    INTROSPECTION_UNUSABLE = "introspection_unusable"
    INTROSPECTION_UNREADABLE = "introspection_unreadable"
    INTROSPECTION_REFUSED_US = "introspection_refused_us"
    INTROSPECTION_NOT_CONFIGURED = "introspection_not_configured"
    ISSUER_LOOKUP_FAILED = "issuer_lookup_failed"
    HTTP_CLIENT_UNUSABLE = "http_client_unusable"

    # The store
    STORE_UNREACHABLE = "store_unreachable"
    STORE_TIMEOUT = "store_timeout"
    STORE_FULL = "store_full"
    STORE_GONE = "store_gone"
    STORE_OPEN_TO_ALL = "store_open_to_all"
