"""Shipments: how an ordered good comes to its buyer; events that a carrier's system publishes."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from contracts.channels import ID, ChannelKind, Narrowed, Sees
from contracts.contract import Contract
from contracts.domain import Domain
from contracts.events.data import Id, Text
from contracts.events.moment import Moment
from contracts.principal import ADMIN, BUYER
from contracts.subjects import Layout
from contracts.topology import GIB, StreamSpec

CARRIER = "carrier"

# The subject is the set of routing keys: who may see an event follows from these tokens and from nothing else.
SHIPMENT = Layout("shipment", ("order", "buyer", "carrier", "shipment"))

STREAM = StreamSpec("SHIPMENTS", (SHIPMENT.wildcard,), max_bytes=1 * GIB, discard="new")


class ShipmentData(BaseModel):
    # Unknown fields are let through, so that an optional one can be added later.
    model_config = ConfigDict(frozen=True)

    order_id: Id
    buyer_id: Id
    carrier_id: Id
    shipment_id: Id


class ShipmentCreated(ShipmentData):
    """A carrier has taken over an order's goods."""

    due_at: Moment | None = None


class ShipmentMoved(ShipmentData):
    """The goods were seen at a place."""

    place: Text


class ShipmentDelivered(ShipmentData):
    """The goods are with the buyer."""

    received_by: Text


def _event(kind: str, model: type[BaseModel], example: dict[str, Any]) -> Contract:
    ids = {"order_id": "order_5be8", "buyer_id": "buyer_ada", "carrier_id": "carrier_kurt", "shipment_id": "s_77"}
    keys = {token: f"{token}_id" for token in SHIPMENT.tokens}
    return Contract(kind, 1, model, STREAM.name, SHIPMENT, keys, fixed={}, example={**ids, **example})


DOMAIN = Domain(
    "shipment",
    streams=(STREAM,),
    channels=(
        # One shipment: its buyer and its carrier see it, each narrowed to what is their own.
        ChannelKind(
            "shipment",
            STREAM.name,
            SHIPMENT,
            ({"shipment": ID},),
            {ADMIN: Sees.ALL, BUYER: Narrowed("buyer"), CARRIER: Narrowed("carrier")},
        ),
        # All shipments of a carrier, for that carrier.
        ChannelKind("carrier", STREAM.name, SHIPMENT, ({"carrier": ID},), {ADMIN: Sees.ALL, CARRIER: Sees.OWN}),
    ),
    roles=frozenset({CARRIER}),
    events=(
        _event("SHIPMENT_CREATED", ShipmentCreated, {"due_at": "2026-11-23T12:00:00Z"}),
        _event("SHIPMENT_MOVED", ShipmentMoved, {"place": "Oslo, hub 2"}),
        _event("SHIPMENT_DELIVERED", ShipmentDelivered, {"received_by": "Ada"}),
    ),
)
