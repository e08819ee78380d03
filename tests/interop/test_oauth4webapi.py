"""A client of ``oauth4webapi``, which reads by the grammar and compares exactly."""

from __future__ import annotations

import pytest

from tests.interop.conftest import Node, Notes

pytestmark = pytest.mark.interop


def test_oauth4webapi_discovers_and_calls(notes: Notes, node: Node) -> None:
    told = node(
        "oauth4webapi.mjs",
        api=f"{notes.url}/notes",
        resource=notes.url,
        token=notes.token("notes.read"),
    )
    (refused,) = told["refused"]["challenges"]
    (lacking,) = told["written"]["challenges"]

    assert told["refused"]["status"] == 401
    assert refused["scheme"] == "bearer"
    assert refused["parameters"]["error"] == "invalid_token"
    assert refused["parameters"]["resource_metadata"] == notes.metadata_url
    assert told["metadata"] == told["named"]
    assert told["metadata"]["resource"] == notes.url
    assert told["metadata"]["authorization_servers"] == [notes.issuer.issuer]
    assert told["server"] == notes.authorization.metadata
    assert told["read"]["status"] == 200
    assert told["written"]["status"] == 403
    assert lacking["parameters"]["error"] == "insufficient_scope"
    assert lacking["parameters"]["scope"] == "notes.write"
