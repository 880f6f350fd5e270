"""Addresses as texts: "host:port", an IPv6 host in brackets."""

import ipaddress


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of "host:port" or "[v6]:port".

    Raises:
        ValueError: it is no such text; says what was expected.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise ValueError(f"{text!r}: no IPv6 address in the brackets: {error}") from None
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address stands in brackets, as in [::1]:4648")
    if not host or not colon or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError(f"{text!r} is not host:port, as in 10.0.0.1:4648")
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """Return "host:port"; IPv6 in brackets, an IPv4 address mapped into it as itself."""
    host = host.removeprefix("::ffff:") if "." in host else host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
