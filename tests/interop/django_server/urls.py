"""Where the guides of Django OAuth Toolkit put it: below a prefix, and its metadata
where RFC 8414 §3.1 has it for an issuer with a path."""

from __future__ import annotations

from django.urls import include, path  # type: ignore[import-untyped]
from oauth2_provider.urls import (  # type: ignore[import-untyped]
    metadata_urlpatterns,
)

urlpatterns = [
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    *metadata_urlpatterns,
]
