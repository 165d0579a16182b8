"""Host names turned into addresses once, and private ones refused, so that a name cannot mean another host a moment later."""

from __future__ import annotations

import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address

from comemory.errors import DeliveryError

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def resolve(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The addresses of a host.

    Raises:
        DeliveryError: it has none, or one of them is private and that is not allowed.

    >>> resolve("127.0.0.1", 80, allow_private=True)
    ['127.0.0.1']
    """
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DeliveryError(f"cannot find the address of {host!r}: {error}") from None
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    private = [address for address in addresses if not is_public(address)]
    if private and not allow_private:
        raise DeliveryError(
            f"{host!r} has the private address {private[0]}: set allow_private = true if alerts may go there"
        )
    return addresses


def is_public(text: str) -> bool:
    """Whether an address is one of the public internet, also where it wraps another one.

    >>> [is_public(text) for text in ("8.8.8.8", "10.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::a00:1")]
    [True, False, False, False, False]
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return all(
        one.is_global
        and not (one.is_multicast or one.is_reserved or one.is_link_local or one.is_loopback or one.is_unspecified)
        for one in _meant(address)
    )


def _meant(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """An address with those that it wraps; one behind NAT64 is the wrapped one alone."""
    if isinstance(address, IPv4Address):
        return [address]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    inner = (address.ipv4_mapped, address.sixtofour, *(address.teredo or ()))
    return [address, *(one for one in inner if one is not None)]
