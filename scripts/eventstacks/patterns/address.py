"""IP addresses as patterns compare them: by their hexadecimal digits."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_IPV6 = re.compile(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*")


@lru_cache(maxsize=4096)
def find_digits(text: str) -> str | None:
    """The 8 (IPv4) or 32 (IPv6) hexadecimal digits of an address; None if ``text`` is not one.

    As in Java, whose parser event-ruler uses: 010.0.0.1 is 10.0.0.1, and ::ffff:10.0.0.1 in hexadecimal is IPv4.
    """
    if _IPV4.fullmatch(text):
        octets = [int(part) for part in text.split(".")] if len(text) <= 15 else [256]
        return bytes(octets).hex() if max(octets) <= 255 else None
    if not _IPV6.fullmatch(text):
        return None
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address).packed.hex()


def parse_cidr(text: str) -> tuple[str, str]:
    """The digits of the lowest and the highest address of a block. Raises ValueError in AWS's words."""
    parts = text.split("/")
    while parts and not parts[-1]:  # Java's split drops them
        parts.pop()
    if len(parts) != 2:
        raise ValueError("Malformed CIDR, one '/' required")
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", parts[1]):
        raise ValueError("Malformed CIDR, mask bits must be an integer")
    mask = int(parts[1])
    if mask < 0:
        raise ValueError("Malformed CIDR, mask bits must not be negative")
    digits = find_digits(parts[0])
    if digits is None:
        known = _IPV4.fullmatch(parts[0]) or _IPV6.fullmatch(parts[0])
        raise ValueError(f"{'Invalid' if known else 'Nonstandard'} IP address: {parts[0]}")
    bits = len(digits) * 4
    if mask >= bits:
        raise ValueError(f"IPv{4 if bits == 32 else 6} mask bits must be < {bits}")
    free = (1 << bits - mask) - 1
    low = int(digits, 16) & ~free
    return f"{low:0{bits // 4}x}", f"{low | free:0{bits // 4}x}"
