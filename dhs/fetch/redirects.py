"""Which servers a service may redirect to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urljoin

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from fastnorm.text import one_line

PORTS = {"http": 80, "https": 443}
MOST_LETTERS = 200
"""Largest number of characters of an address in a message."""


class Origin(NamedTuple):
    """A server as an address names it."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


class Redirects:
    """The rule for redirects: to the service itself, and to servers that the user allowed.

    Parameters
    ----------
    url : str
        Address of the service.
    allowed : iterable of str
        Other servers, each like ``https://mirror.org`` or ``http://localhost:8000``.

    Raises
    ------
    TypeError, ValueError
        An entry is not the address of a server.
    """

    def __init__(self, url: str, allowed: Iterable[str] = ()) -> None:
        self._service = _origin(url)
        if isinstance(allowed, str):
            raise TypeError(f"allow_redirect={allowed!r} is not a list of addresses.")
        self._allowed = frozenset(_server(entry) for entry in allowed)

    def follow(self, address: str, location: str) -> str:
        """Return the address that a redirect leads to.

        Parameters
        ----------
        address : str
            Address that redirects.
        location : str
            Where it redirects to, as the server wrote it.

        Raises
        ------
        ValueError
            The address is invalid, or on a server that is not allowed.
        """
        try:
            target = urljoin(address, location)
            origin = _origin(target)
        except ValueError as error:
            raise ValueError(
                f"redirected to an invalid address ({one_line(str(error), MOST_LETTERS)})."
            ) from error
        if not self._is_service(origin) and origin not in self._allowed:
            to = one_line(str(origin), MOST_LETTERS)
            raise ValueError(
                f"redirected from {self._service} to {to}, which is not allowed; if you trust "
                f"that server, add --allow-redirect {to}."
            )
        return target

    def _is_service(self, origin: Origin) -> bool:
        here = self._service
        is_port = origin.port == here.port or all(
            server.port == PORTS[server.scheme] for server in (origin, here)
        )
        is_scheme = origin.scheme == here.scheme or origin.scheme == "https"
        return origin.host == here.host and is_port and is_scheme


def _server(entry: str) -> Origin:
    if not isinstance(entry, str):
        raise TypeError(f"allow_redirect={entry!r} is not an address, which is text.")
    try:
        parts = parse_url(entry)
        if parts.auth or parts.query or parts.fragment or parts.path not in (None, "", "/"):
            raise ValueError("it has more than a host and a port")
        return _origin(entry)
    except ValueError as error:
        raise ValueError(
            f"allow_redirect={entry!r} is not allowed ({error}): it must be a server, like "
            "https://mirror.org or http://localhost:8000."
        ) from error


def _origin(address: str) -> Origin:
    try:
        parts = parse_url(address)
    except LocationParseError as error:
        raise ValueError(str(error)) from error
    if parts.scheme not in PORTS or not parts.host:
        raise ValueError(f"{address}: neither http nor https with a host")
    return Origin(parts.scheme, parts.host, parts.port or PORTS[parts.scheme])
