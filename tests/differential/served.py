"""A deployment with the middleware in front, for servers in processes of their own."""

from __future__ import annotations

import os

from tests.differential.applications import DEPLOYMENTS, App
from tests.differential.guarding import BARE, guard

NAME = "TESTED_DEPLOYMENT"
KEYS = "TESTED_KEYS"


def application() -> App:
    """The one that the environment names; its handlers answer with their names."""
    deployment = DEPLOYMENTS[os.environ[NAME]]
    protect = guard(deployment, deployment.patterns, catch_all=False, resource=BARE)
    return deployment.build([], protect)
