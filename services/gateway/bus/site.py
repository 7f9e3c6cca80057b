"""The site: this replica's connection to NATS, and what is read through it."""

from collections.abc import Mapping
from typing import Any

from nats.aio.client import Client

from services.chassis.direct import Batch, direct_get
from services.chassis.prefix import LOCAL_API, api_of
from services.gateway.bus.parser import parser_of


class NotConnected(Exception):
    """The replica has no connection to NATS now."""


class Site:
    """Holds the client once there is one."""

    def __init__(self, hub_domain: str = "") -> None:
        """`hub_domain`: the JetStream domain of the hub, where this site is a region."""
        self._client: Client | None = None
        self.hub_domain = hub_domain

    @property
    def hub_api(self) -> str:
        """The subjects' prefix under which the hub's JetStream answers here, through the leaf in a region."""
        return api_of(self.hub_domain)

    @property
    def is_region(self) -> bool:
        """Whether the streams here are mirrors of the hub's."""
        return bool(self.hub_domain)

    @property
    def api(self) -> str:
        """The prefix of this site's own JetStream."""
        return LOCAL_API

    def attach(self, client: Client) -> None:
        """NATS was reached; the feeds' parser is put in before anything but the greeting can have arrived."""
        parser_of(client)
        self._client = client

    @property
    def is_connected(self) -> bool:
        """Whether requests can be sent now."""
        return self._client is not None and self._client.is_connected

    @property
    def client(self) -> Client:
        """The client.

        Raises:
            NotConnected: NATS was never reached, or is away.
        """
        if self._client is None or not self._client.is_connected:
            raise NotConnected("NATS is away")
        return self._client

    async def direct_get(
        self, stream: str, query: Mapping[str, Any], seconds: float, *, api: str | None = None
    ) -> Batch:
        """One batched direct get, which is how a stateless gateway replays; `api`: of the hub, where not of this site.

        Raises:
            NotConnected, DirectGetFailed: nothing can be said of what is stored.
            TimeoutError: the batch was not complete in time.
        """
        return await direct_get(self.client, stream, query, seconds, api=api)
