"""Host names resolved once, private addresses refused.

The connection is made to the address that was checked, so a name that resolves to another address a moment later (DNS
rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address

from comemory.errors import DeliveryError

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_RELAY_6TO4 = ipaddress.IPv4Network("192.88.99.0/24")
"""Reserved for relays of 6to4 (RFC 7526): Python counts it as global, but it is routed to the nearest relay."""


def resolve_host(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The addresses of a host.

    Raises:
        DeliveryError: it has none, or one of them is private and private ones are not allowed.

    >>> resolve_host("127.0.0.1", 80, allow_private=True)
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
            f"{host!r} has the private address {private[0]}: set allow_private = true to send alerts there"
        )
    return addresses


def is_public(text: str) -> bool:
    """Whether an address is public, and so is the IPv4 address that it may embed.

    >>> [is_public(text) for text in ("8.8.8.8", "10.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::a00:1")]
    [True, False, False, False, False]
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return all(
        one.is_global
        and one not in _RELAY_6TO4
        and not (one.is_multicast or one.is_reserved or one.is_link_local or one.is_loopback or one.is_unspecified)
        for one in _with_embedded(address)
    )


def _with_embedded(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """An address and the IPv4 addresses embedded in it; a NAT64 address stands for the embedded one alone."""
    if isinstance(address, IPv4Address):
        return [address]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    inner = (address.ipv4_mapped, address.sixtofour, *(address.teredo or ()))
    return [address, *(one for one in inner if one is not None)]
