"""The regions of the one-machine system: which there are, where each is, and what its processes are told.

A region has a nats-server of its own, a leaf of the hub's, a relay that keeps its mirrors, and a gateway that talks
to nobody else. Everything else is at the hub.
"""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.local.embedded import free_port, region_options, write_config
from services.local.sockets import HOST, listening, url_of

HUB_DOMAIN = "hub"
REGION_SERVICES = ("relay", "gateway")
MOST_REGIONS = 8
# A mirror is made at the first look after its stream is there, and people wait for it.
_RELAY_INTERVAL_SECONDS = "1"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


class WrongRegions(ValueError):
    """What `--regions` names cannot be."""


def region_names(text: str) -> tuple[str, ...]:
    """The names in `eu,us`.

    Raises:
        WrongRegions: says which name is none.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if not _NAME.fullmatch(name) or name == HUB_DOMAIN:
            raise WrongRegions(
                f"{name!r} is no name for a region: lower-case letters, digits and -, and not {HUB_DOMAIN}"
            )
    if len(set(names)) != len(names):
        raise WrongRegions("a region is named twice")
    if len(names) > MOST_REGIONS:
        raise WrongRegions(f"{MOST_REGIONS} regions at most on one machine")
    return names


@dataclass(frozen=True, slots=True)
class LocalRegion:
    """One region's addresses, held before anything serves them."""

    name: str
    # By service.
    sockets: Mapping[str, socket.socket]
    nats_port: int
    monitor_port: int

    @classmethod
    def bind(cls, name: str) -> "LocalRegion":
        """Take free ports."""
        return cls(name, {service: listening(0) for service in REGION_SERVICES}, free_port(), free_port())

    @property
    def nats_url(self) -> str:
        """Where its services connect."""
        return f"nats://{HOST}:{self.nats_port}"

    def addresses(self) -> dict[str, str]:
        """Where it is, for who uses it."""
        return {**{service: url_of(listener) for service, listener in self.sockets.items()}, "nats": self.nats_url}

    def configure(self, folder: Path, hub_leaf_port: int) -> Path:
        """Write its nats-server's configuration."""
        return write_config(folder, self.nats_port, self.monitor_port, *region_options(self.name, hub_leaf_port))

    def environment(self) -> dict[str, str]:
        """What its services are told beside what all are."""
        return {
            "A2A_NATS_URL": self.nats_url,
            "A2A_NATS_MONITOR_URL": f"http://{HOST}:{self.monitor_port}",
            "A2A_REGION": self.name,
            "A2A_HUB_DOMAIN": HUB_DOMAIN,
            "A2A_DECLARE": "false",  # streams are the hub's, mirrors its relay's
            "A2A_RELAY_INTERVAL_S": _RELAY_INTERVAL_SECONDS,
        }

    def close(self) -> None:
        """Let go of the sockets."""
        for listener in self.sockets.values():
            listener.close()
