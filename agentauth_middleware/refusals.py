"""For frameworks without a module of their own here: guards, and refusals as answers.

A framework turns an exception of a handler into a page 500 of its own before any
middleware can see it. So its error handler asks a ``RefusalAnswers`` for the answer::

    answers = RefusalAnswers(server)

    def on_error(request, error):
        refusal = RefusalAnswers.refusal_in(error)
        if refusal is not None:
            answer = answers.answer(refusal, method=request.method, path=request.path)
            return Response(answer.body, answer.status, answer.headers)
"""

from __future__ import annotations

from agentauth_middleware._middleware.arguments import check_resource_server
from agentauth_middleware._middleware.guards import requires
from agentauth_middleware._middleware.refusal_writer import (
    Failure,
    RefusalWriter,
    refusal_in,
)
from agentauth_middleware._syntax.http import PlainRequest, Response
from agentauth_middleware.access import current_access
from agentauth_middleware.errors import RequestRefusedError, UnavailableError
from agentauth_middleware.settings.resource_server import ResourceServer

__all__ = ["RefusalAnswers", "requires"]


class RefusalAnswers:
    """The middleware's answers to what handlers raise, for an error handler to send."""

    ANSWERED = (RequestRefusedError, UnavailableError)
    """What there is an answer to, for frameworks that want classes of errors."""

    def __init__(self, resource_server: ResourceServer) -> None:
        """*resource_server* is that of the middleware.

        Raises:
            ConfigurationError: it is no ``ResourceServer``.
        """
        check_resource_server(resource_server, "RefusalAnswers(ResourceServer(...))")
        self._writer = RefusalWriter(resource_server)

    @staticmethod
    def refusal_in(failure: Exception) -> Failure | None:
        """The refusal that *failure* is, or that a task group has made a group of.

        ``None`` for an error like any other, also for a group with one in it.
        """
        return refusal_in(failure)

    def answer(
        self,
        failure: Failure,
        *,
        method: str,
        path: str,
    ) -> Response:
        """Status, headers and body of the answer; leaves a record for the audit.

        To be called in the context of the request. *path* is the decoded one.
        """
        request = PlainRequest(method, path)
        return self._writer.answer_raised(failure, current_access(), request)
