"""The prefix: which JetStream a connection speaks to.

In a region a service is connected to the region's own nats-server, and streams and buckets live at the hub, whose
JetStream answers under its domain through the leaf node. A publisher there must mean the hub's stream and never the
mirror that bears its name: what it expects of an aggregate is true at the hub alone.
"""

from nats.aio.client import Client

LOCAL_API = "$JS.API"


class DomainClient(Client):
    """A connection whose JetStream is that of another domain."""

    def __init__(self, domain: str) -> None:
        super().__init__()
        self.prefix = api_of(domain)


def api_of(domain: str) -> str:
    """The prefix of the API of a domain's JetStream; empty is the connected server's own."""
    return f"$JS.{domain}.API" if domain else LOCAL_API


def prefix_of(client: Client) -> str:
    """The prefix of the JetStream that this connection speaks to."""
    return client.prefix if isinstance(client, DomainClient) else LOCAL_API


def bucket_prefix_of(client: Client) -> str:
    """What stands before `$KV.<bucket>.<key>` in a write: leaf nodes keep bare `$KV` subjects at home."""
    found = prefix_of(client)
    return "" if found == LOCAL_API else f"{found}."
