"""Listing: what an admin sees of a replica's connections, a page at a time, in the order in which they began."""

from contracts.fleet import ConnectionQuery, SeenConnection, SeenPage
from services.gateway.core.connection import Connection
from services.gateway.core.replica import Replica

# Named of each connection; 500 connections then fit into one message between replicas.
_MOST_CHANNELS = 16


def listed(replica: Replica, name: str, query: ConnectionQuery) -> SeenPage:
    """The connections of the replica called `name` that the query asks for."""
    found: list[SeenConnection] = []
    for connection in list(replica.connections):
        if connection.connection_id <= query.after or connection.closed or not _fits(connection, query):
            continue
        if len(found) == query.limit:
            return SeenPage(replica=name, connections=found, more=True)
        found.append(_seen(connection, name, replica.region))
    return SeenPage(replica=name, connections=found, more=False)


def close(replica: Replica, connection_id: str) -> bool:
    """Close one connection; whether it is here."""
    for connection in list(replica.connections):
        if connection.connection_id == connection_id and not connection.closed:
            connection.let_go()
            return True
    return False


def _fits(connection: Connection, query: ConnectionQuery) -> bool:
    if query.sub is not None and (connection.principal is None or connection.principal.sub != query.sub):
        return False
    return query.channel is None or query.channel in _channels(connection)


def _channels(connection: Connection) -> list[str]:
    return [
        grant.channel
        for reader in connection.readers.values()
        for subscription in reader.subscriptions.values()
        for grant in subscription.grants
    ]


def _seen(connection: Connection, name: str, region: str) -> SeenConnection:
    principal, channels = connection.principal, sorted(_channels(connection))
    return SeenConnection(
        id=connection.connection_id,
        transport=connection.TRANSPORT,
        sub=None if principal is None else principal.sub,
        role=None if principal is None else principal.role,
        replica=name,
        region=region,
        channels=channels[:_MOST_CHANNELS],
        subscriptions=len(channels),
        jti=None if principal is None else principal.jti,
        expires_at=None if principal is None else principal.expires_at,
    )
