"""Where a class finds this machine: its addresses in the local network, and the code that stands in the class's own.

The code names the class and no person; it keeps nobody out, and the server knows nothing of it but how one looks.
"""

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_network
from socket import AF_INET
from typing import Protocol

from wanda_core.errors import InputError

LETTERS = "23456789BCDFGHJKLMNPQRSTVWXYZ"  # without vowels it is never a word, and nothing looks like 0 or 1
LENGTH = 4
CODE = re.compile(rf"[{LETTERS}]{{{LENGTH}}}", re.IGNORECASE)
EVERYWHERE = "0.0.0.0"  # listen on all interfaces, this machine's own included
# Interfaces of containers, virtual machines and tunnels: a class that stands in the same room is behind none of them.
VIRTUAL = re.compile(r"(docker|br-|veth|virbr|vmnet|vboxnet|vethernet|tun|tap|utun|wg|zt|tailscale|cni|flannel)", re.I)
HOME = [ip_network(net) for net in ("192.168.0.0/16", "10.0.0.0/8", "172.16.0.0/12")]  # RFC 1918, likeliest first


class Address(Protocol):
    """An address of an interface, as psutil tells it."""

    @property
    def family(self) -> int:
        """Kind of the address."""

    @property
    def address(self) -> str:
        """The address itself."""


@dataclass(frozen=True)
class Class:
    """Where a class opens the lesson. hosts: `192.168.0.12:7860`, the likeliest first; code: of `new_code`."""

    hosts: tuple[str, ...]
    code: str

    @property
    def typed(self) -> str:
        """What is typed into a browser."""
        return f"{self.hosts[0]}/{self.code}"

    @property
    def url(self) -> str:
        """The same with its scheme, as a picture holds it."""
        return f"http://{self.typed}"

    @property
    def others(self) -> tuple[str, ...]:
        """The same by the other addresses of this machine."""
        return tuple(f"{host}/{self.code}" for host in self.hosts[1:])


def new_code() -> str:
    """Draw the code of a class."""
    return "".join(secrets.choice(LETTERS) for _ in range(LENGTH))


def class_of(host: str, port: int, code: str, own: Iterable[str]) -> Class:
    """Find where a class opens the page. host: what the server listens on; own: this machine's addresses, in order.

    Raises InputError where the machine is in no network.
    """
    hosts = tuple(own) if host == EVERYWHERE else (host,)
    if not hosts:
        raise InputError(
            "--lan found no address by which another device could reach this machine; join the network of the class "
            "first, or name this machine's address with --host"
        )
    return Class(tuple(f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in hosts), code)


def own_addresses() -> list[str]:
    """List the addresses of this machine; nothing is sent."""
    import psutil

    up = {name: state.isup for name, state in psutil.net_if_stats().items()}
    return reachable(psutil.net_if_addrs(), up)


def reachable(interfaces: Mapping[str, Iterable[Address]], up: Mapping[str, bool]) -> list[str]:
    """Sort the IPv4 addresses by which others may reach this machine, the likeliest first.

    interfaces, up: by name, their addresses and whether they are on. Home and school networks go first, interfaces of
    containers and tunnels last; loopback and addresses that a machine gave itself (RFC 3927) lead nowhere.
    """
    found: list[tuple[bool, int, str]] = []
    for name, addresses in interfaces.items():
        for one in addresses:
            if one.family != AF_INET or not up.get(name, True):
                continue
            number = ip_address(one.address)
            assert isinstance(number, IPv4Address)  # by its family
            if not (number.is_loopback or number.is_link_local or number.is_unspecified):
                place = next((place for place, net in enumerate(HOME) if number in net), len(HOME))
                found.append((bool(VIRTUAL.match(name)), place, one.address))
    return [address for *_, address in sorted(found, key=lambda entry: entry[:2])]
