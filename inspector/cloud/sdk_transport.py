"""The way out for a vendor's SDK: its HTTP client sends through a `Channel`, under the same rules as everything else.

Only with an extra installed (`gemini`, `openai`), so providers import this module when they are made.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx2

from inspector.cloud.channel import Channel, HttpAnswer
from inspector.cloud.provider import ProviderError, ProviderUnreachableError

PASSED_ON = frozenset({"accept", "authorization", "content-type", "user-agent", "x-goog-api-client", "x-goog-api-key"})
"""Headers of the SDKs that leave. Others tell of this machine, or come from the environment."""


class ChannelTransport(httpx2.BaseTransport):
    """Sends a request of the SDK through the channel and takes a success back to it.

    A failure is raised as a `ProviderError` and passes through the SDK as it is: it knows no exception of
    ours. `refuse` makes it from an answer that is not a success. Set `deadline` before every call.
    """

    def __init__(self, channel: Channel, refuse: Callable[[HttpAnswer], ProviderError]) -> None:
        self._channel = channel
        self._refuse = refuse
        self.deadline = 0.0
        """Monotonic seconds by which all requests from now on have to be answered."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        channel, url = self._channel, request.url
        port = url.port or {"https": 443, "http": 80}.get(url.scheme)
        if (url.scheme, url.host, port) != (channel.scheme, channel.host, channel.port):
            raise ProviderUnreachableError(f"{channel.destination}: the SDK asked for another host: {url.host[:80]}")
        headers = [(name, value) for name, value in request.headers.items() if name.lower() in PASSED_ON]
        answer = channel.exchange(request.method, url.raw_path.decode("ascii"), headers, request.read(), self.deadline)
        if answer.status != 200:
            raise self._refuse(answer)
        kind = answer.header("Content-Type") or "application/json"
        return httpx2.Response(answer.status, headers={"Content-Type": kind}, content=answer.body, request=request)


def make_http_client(transport: ChannelTransport) -> httpx2.Client:
    """The client to hand to an SDK: nothing from the environment, no redirects, no time-outs but the deadline."""
    return httpx2.Client(transport=transport, trust_env=False, follow_redirects=False, timeout=None)
