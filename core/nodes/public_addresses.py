"""Which IP addresses are on the public internet: a table of its own, since Python's changes with its version."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

# The special-purpose registries of IANA (RFC 6890), multicast, and what else leads somewhere else than it seems.
NOT_PUBLIC = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this host
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT; the metadata of Alibaba's cloud
            "127.0.0.0/8",
            "168.63.129.16/32",  # the host of an Azure machine, as that sees it
            "169.254.0.0/16",  # link-local; the metadata of most clouds
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments; the metadata of Oracle's cloud
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # multicast tunnels
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
GLOBAL_UNICAST = IPv6Network("2000::/3")  # all else is loopback, local, multicast, IPv4 in disguise (NAT64), or unused
NOT_PUBLIC_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments; Teredo, which carries IPv4
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which carries IPv4
            "2620:4f:8000::/48",  # AS112
            "3ffe::/16",  # the former 6bone
            "3fff::/20",  # documentation
        ),
    )
)


def is_public(address: str) -> bool:
    """Whether a connection to this IP address leaves for the public internet. Raises ValueError: it is none."""
    ip = ip_address(address)
    if not isinstance(ip, IPv4Address):
        if ip.ipv4_mapped is None:
            return ip in GLOBAL_UNICAST and not any(ip in network for network in NOT_PUBLIC_V6)
        ip = ip.ipv4_mapped
    return not any(ip in network for network in NOT_PUBLIC)
