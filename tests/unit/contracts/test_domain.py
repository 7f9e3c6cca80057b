"""Which domains go together."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from contracts.channels import ID, ChannelKind, Narrowed, Sees
from contracts.contract import Contract
from contracts.domain import MARKET_DOMAIN, Domain, InvalidDomain
from contracts.subjects import Layout
from contracts.topology import StreamSpec

PARCEL = Layout("parcel", ("carrier", "parcel"))
STREAM = StreamSpec("PARCELS", (PARCEL.wildcard,))
KIND = ChannelKind("parcel", "PARCELS", PARCEL, ({"parcel": ID},), {"carrier": Narrowed("carrier")})


class Sent(BaseModel):
    carrier_id: str
    parcel_id: str


SENT = Contract(
    "PARCEL_SENT", 1, Sent, "PARCELS", PARCEL, {"carrier": "carrier_id", "parcel": "parcel_id"}, {}, {"parcel_id": "p"}
)
PARCELS = Domain("parcels", (STREAM,), (KIND,), frozenset({"carrier"}), (SENT,))


def test_a_domain_that_fits_is_joined_with_the_market() -> None:
    found = MARKET_DOMAIN.joined_with([PARCELS])
    assert found.name == "market+parcels"
    assert found.streams == (*MARKET_DOMAIN.streams, STREAM)
    assert found.channels == (*MARKET_DOMAIN.channels, KIND)
    assert found.roles == MARKET_DOMAIN.roles | {"carrier"}
    assert found.events == (SENT,)


def test_a_domain_may_add_one_channel_more_of_a_kind_that_has_only_single_ones() -> None:
    board = ChannelKind("admin", "PARCELS", PARCEL, ({},), {"admin": Sees.ALL}, only_id="parcels")
    MARKET_DOMAIN.joined_with([replace(PARCELS, channels=(KIND, board))])


def stream(**changed: Any) -> dict[str, Any]:
    return {"streams": (replace(STREAM, **changed),), "channels": (), "events": ()}


def kind(**changed: Any) -> dict[str, Any]:
    return {"channels": (replace(KIND, **changed),)}


def sent(**changed: Any) -> dict[str, Any]:
    return {"events": (replace(SENT, **changed),)}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (stream(name="parcels"), "no name of a stream"),
        (stream(name="MARKET"), "MARKET is declared twice"),
        (stream(name="MARKET_REPLAY"), "MARKET_REPLAY is declared twice"),
        (stream(name="DEAD_LETTERS"), "DEAD_LETTERS is declared twice"),
        (stream(subjects=("market.x.>",)), "both take"),
        (stream(subjects=("*.x.y.z.order.o",)), "both take"),
        (stream(subjects=("$KV.ROUTES.a",)), "both take"),
        (stream(subjects=("parcel.a.*", "parcel.*.b")), None),
        ({"roles": frozenset({"Carrier"})}, "no name of a role"),
        (kind(name="buyer"), "buyer:{id} is declared twice"),
        (kind(name="admin"), "admin:{id} is declared twice"),
        (kind(name="admin", only_id="market"), "admin:market is declared twice"),
        (kind(name="order", only_id="board"), "order:board is declared twice"),
        (kind(name="a parcel"), "grammar"),
        (kind(only_id="a.b"), "grammar"),
        (kind(stream="PARCEL"), "nobody declares the stream PARCEL"),
        (kind(stream="MARKET"), "MARKET does not take parcel.>"),
        (kind(selections=({"order": ID},)), "parcel subjects have no token order"),
        (kind(access={"carrier": Narrowed("node")}), "parcel subjects have no token node"),
        (kind(access={"driver": Sees.ALL}), "nobody declares the role driver"),
        (
            {
                "channels": (
                    KIND,
                    replace(KIND, name="box", layout=Layout("parcel", ("box",)), selections=({"box": ID},), access={}),
                )
            },
            "one layout",
        ),
        (sent(stream="PLANS"), "PLANS does not take parcel.>"),
        (
            sent(keys={"carrier": "carrier_id"}),
            "PARCEL_SENT version 1 must say of each token, and of no other, what it is: parcel",
        ),
        (sent(fixed={"box": "b"}), "what it is: box"),
        ({"events": (SENT, SENT)}, "PARCEL_SENT version 1 is declared twice"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(changed: dict[str, Any], told: str | None) -> None:
    domain = replace(PARCELS, **changed)
    if told is None:
        MARKET_DOMAIN.joined_with([domain])
        return
    with pytest.raises(InvalidDomain) as refused:
        MARKET_DOMAIN.joined_with([domain])
    assert told in str(refused.value)
    assert str(refused.value).startswith("market+parcels: ")


def test_the_same_domain_twice_is_refused() -> None:
    with pytest.raises(InvalidDomain, match="PARCELS is declared twice"):
        MARKET_DOMAIN.joined_with([PARCELS, PARCELS])
