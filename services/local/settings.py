"""What the one-machine system reads of the environment; every other `A2A_*` goes to the services as it is."""

from pydantic import Field

from contracts.topology import GIB
from services.chassis.settings import HttpUrl, TokenSettings


class LocalSettings(TokenSettings):
    """The supervisor's own settings: what it needs to know, or sets another default for than the services do."""

    # JetStream reserves the size when the stream is made, so a laptop gets less than production's 8 GiB.
    market_max_bytes: int = Field(default=GIB, ge=1, description="size reserved for the MARKET stream")
    # Made for each run where none is given.
    payment_webhook_secret: str | None = Field(
        default=None, min_length=1, description="what the payment provider signs with: whsec_<base64>, or any text"
    )
    # Nothing balances load here, so nobody has to notice that the gateway is leaving before it does.
    drain_grace_s: float = Field(default=0, ge=0, description="drain: time unready before closing connections")
    drain_spread_s: float = Field(default=1, ge=0, description="drain: time over which connections are closed")


class TrafficSettings(TokenSettings):
    """What `python -m services.local.traffic` reads."""

    deals_url: HttpUrl = Field(description="where deals are made")
    gateway_url: HttpUrl = Field(description="where plans are begun, over A2A")
    payments_url: HttpUrl = Field(description="where payments are settled")
    traffic_rate: float = Field(default=3, gt=0, le=1000, description="made-up requests a second")
    jwt_hs256_secret: str = Field(min_length=1, description="shared secret for HS256")
    payment_webhook_secret: str = Field(min_length=1, description="what the payment provider signs with")
