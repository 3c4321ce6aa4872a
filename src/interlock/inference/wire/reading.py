"""Requests as they arrive on one connection: HTTP/1.1 as llhttp reads it, strictly, with bounds on what may be long.

Of a body that is refused nothing is kept, but it is read on: a client that still sends would not see the answer.
"""

from __future__ import annotations

from collections import deque
from urllib.parse import unquote

import httptools

from ..protocol.answers import Answer, refusal
from ..protocol.bodies import LONGEST_BODY, UnreadableBody

LONGEST_HEAD = 64 * 1024
MOST_DISCARDED = 16 * LONGEST_BODY
LONG_BODY = 64 * 1024
"""From this length on a body counts against MOST_HELD."""
MOST_HELD = 8 * LONGEST_BODY
"""Bytes of long bodies that are under way at once; what they become in memory is several times that."""


class Held:
    """How many bytes of long bodies are under way."""

    def __init__(self) -> None:
        self.size = 0


class Request:
    """One HTTP request. Names of ``headers`` are in lower case, one that was given twice has both values.

    ``broken`` is the answer to one that did not arrive as requests should.
    """

    __slots__ = ("broken", "headers", "held", "is_last", "method", "parts", "size", "unreadable", "url")

    def __init__(self) -> None:
        self.method = ""
        self.url = b""
        self.headers: dict[bytes, bytes] = {}
        self.is_last = False
        """Whether the client wants no further answer on its connection."""
        self.parts: list[bytes] = []
        self.size = 0
        """Bytes of the body that have come."""
        self.held = 0
        self.unreadable: UnreadableBody | None = None
        self.broken: Answer | None = None

    @property
    def path(self) -> str:
        """The path without the query, decoded."""
        url = self.url if self.url.startswith(b"/") else _path_of(self.url)
        path = url.partition(b"?")[0].decode("latin-1")
        return unquote(path, errors="replace") if "%" in path else path

    def header(self, name: str) -> str | None:
        """A header by its lower-case name."""
        value = self.headers.get(name.encode())
        return None if value is None else value.decode("latin-1")

    def read(self) -> bytes:
        """The body. UnreadableBody: 413 over LONGEST_BODY, 503 where too many others were under way."""
        if self.unreadable is not None:
            raise self.unreadable
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


class Reading:
    """What one client sends. ``arrived`` are its requests that are here and not answered yet, in their order."""

    def __init__(self, held: Held) -> None:
        self.arrived: deque[Request] = deque()
        self.arriving: Request | None = None
        self.is_continue_due = False
        """Whether the client waits to be told that its body is welcome."""
        self.is_over = False
        """Whether nothing more is read."""
        self._held = held
        self._parser = httptools.HttpRequestParser(self)
        self._is_in_head = True
        self._head_size = 0

    def feed(self, data: bytes) -> None:
        """Reads on. What is wrong with the request that arrives is its answer, and the last one."""
        if self._is_in_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.arriving = self.arrived.pop()  # its body, if it has one, was not read as one
            self.break_off(400, "this server speaks HTTP/1.1 and changes to nothing else")
        except httptools.HttpParserError as wrong:
            self.break_off(400, f"the request is not HTTP/1.1: {wrong}")
        else:
            if self._is_in_head and self._head_size > LONGEST_HEAD:
                self.break_off(431, f"the line and the headers of the request are longer than {LONGEST_HEAD} bytes")
            elif self.arriving is not None and self.arriving.size > MOST_DISCARDED:
                self.break_off(413, f"the body is larger than {LONGEST_BODY} bytes")

    def break_off(self, status: int, because: str) -> None:
        """Whatever arrives is answered so, after what has arrived before; nothing more is read."""
        request = self.arriving or Request()
        self.arriving = None
        self.is_over = request.is_last = True
        self.let_go(request)
        request.broken = refusal(status, because)
        self.arrived.append(request)

    def forget(self) -> None:
        """Nobody waits for answers any more."""
        self.is_over = True
        for request in (*self.arrived, *filter(None, [self.arriving])):
            self.let_go(request)
        self.arriving = None
        self.arrived.clear()

    def let_go(self, request: Request) -> None:
        """The request's body is no longer under way."""
        self._held.size -= request.held
        request.held = 0

    # What the parser calls. A new request has begun before anything is told of it.

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.arriving = Request()
        self._is_in_head = True

    def on_url(self, url: bytes) -> None:
        """A piece of the path and the query."""
        self._request.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which nobody needs."""
        if self._is_in_head:
            name = name.lower()
            headers = self._request.headers
            headers[name] = headers[name] + b", " + value if name in headers else value

    def on_headers_complete(self) -> None:
        """The head is here."""
        request = self._request
        request.method = self._parser.get_method().decode("latin-1")
        request.is_last = not self._parser.should_keep_alive()
        self._is_in_head = False
        self._head_size = 0
        self.is_continue_due = request.headers.get(b"expect", b"").lower() == b"100-continue"

    def on_body(self, part: bytes) -> None:
        """A piece of the body."""
        request = self._request
        request.size += len(part)
        if request.unreadable is None:
            request.parts.append(part)
            if request.size > LONG_BODY:
                self._hold(request)

    def on_message_complete(self) -> None:
        """The request is here."""
        self.arrived.append(self._request)
        self.arriving = None
        self.is_continue_due = False
        self._is_in_head = True

    @property
    def _request(self) -> Request:
        assert self.arriving is not None
        return self.arriving

    def _hold(self, request: Request) -> None:
        if request.size > LONGEST_BODY:
            request.unreadable = UnreadableBody(413, f"the body is larger than {LONGEST_BODY} bytes")
        elif self._held.size + request.size - request.held > MOST_HELD:
            request.unreadable = UnreadableBody(503, "too many long requests are under way")
        if request.unreadable is not None:
            request.parts.clear()
            self.let_go(request)
        else:
            self._held.size += request.size - request.held
            request.held = request.size


def _path_of(url: bytes) -> bytes:
    """Of a URL that names a host too, as proxies are asked; empty where there is none."""
    try:
        return httptools.parse_url(url).path or b""
    except httptools.HttpParserInvalidURLError:
        return b""
