"""The gateway's settings (PROTOCOL §9); read once, at the root."""

from typing import Literal, Self

from pydantic import Field, model_validator

from services.chassis.settings import CommaList, Networks, TokenSettings
from services.gateway.core.headcount import Policy
from services.gateway.core.limits import Limits


class GatewaySettings(TokenSettings):
    """`A2A_*` of one gateway replica; times in seconds, sizes in bytes."""

    heartbeat_s: float = Field(default=25, gt=0.1, description="a heartbeat at least this often")
    idle_s: float = Field(default=60, gt=0.1, description="a WebSocket client silent for this long is closed, 4201")
    auth_timeout_s: float = Field(default=10, gt=0, description="time for the first message to bring a token")
    token_grace_s: float = Field(
        default=30, ge=0, description="how long an expired token still serves an open connection"
    )
    stall_s: float = Field(default=30, gt=0, description="a client that takes nothing for this long is closed, 4102")
    sse_idle_s: float = Field(
        default=15, gt=0.1, description="a quiet event stream gets a ping and its position this often"
    )
    task_idle_s: float = Field(default=3, gt=0.1, le=3.5, description="a quiet A2A stream gets a comment this often")
    task_wait_s: float = Field(default=60, gt=0, description="how long a blocking A2A SendMessage waits for its plan")
    public_url: str = Field(
        default="", description="the gateway's address as the agent card tells it; empty: the one that was asked"
    )
    max_channels: int = Field(default=128, ge=1, description="channels of one connection")
    max_connections_per_principal: int = Field(default=20, ge=1, description="connections of one subject id")
    connection_limit_policy: Literal["oldest", "newest"] = Field(
        default="oldest", description="who stays where a subject id has too many connections: oldest or newest"
    )
    connect_rate: float = Field(default=100, ge=0, description="connects a second from one address; 0 is no limit")
    connect_burst: int = Field(default=1000, ge=1, description="connects at once from one address")
    trusted_proxies: Networks = Field(
        default=(), description="addresses or networks of proxies whose X-Forwarded-For is believed, comma-separated"
    )
    memory_limit_bytes: int | None = Field(
        default=None,
        ge=0,
        description="memory above which nobody new is taken; 0 is no limit; by default 85 % of the control group's",
    )
    drain_grace_s: float = Field(default=10, ge=0, description="drain: time unready before closing connections")
    drain_spread_s: float = Field(default=60, ge=0, description="drain: time over which connections are closed")
    client_rate: float = Field(default=20, gt=0, description="messages a second of one WebSocket client")
    client_burst: int = Field(default=40, ge=1, description="messages at once of one WebSocket client")
    log_bytes: int = Field(default=64 * 1024**2, ge=1024**2, description="memory for the tail of each stream")
    log_warm_events: int = Field(default=10_000, ge=0, description="events read into the log when the replica starts")
    write_high_bytes: int = Field(
        default=256 * 1024, ge=16 * 1024, description="unsent bytes above which a client reads from the log"
    )
    history_reads: int = Field(default=4, ge=1, le=64, description="history reads in flight, each stream")
    replay_scan_limit: int = Field(default=1_000_000, ge=1000, description="events a filtered read may pass over")
    presence_lease_s: int = Field(
        default=10, ge=2, description="the members here are gone elsewhere this long after the replica was last heard"
    )
    presence_renew_s: float = Field(default=3, gt=0.1, description="the lease is renewed this often; under half of it")
    presence_grace_s: float = Field(
        default=10, ge=0, description="a member that lost its connections, or its replica's lease, stays this long"
    )
    presence_burst: int = Field(
        default=5, ge=1, description="presence messages of one connection in one channel in 30 s"
    )
    typing_rate: float = Field(
        default=1, gt=0, description="signals a second, of each kind, of one connection in one channel"
    )
    canary_s: float | None = Field(
        default=None,
        ge=0,
        description="time the way from the hub this often; once a second in a region where unset, 0 is never",
    )
    allowed_origins: CommaList = Field(
        default=(), description="origins whose pages may use the gateway, comma-separated"
    )

    @model_validator(mode="after")
    def _renews_in_time(self) -> Self:
        if 2 * self.presence_renew_s > self.presence_lease_s:
            raise ValueError(
                "A2A_PRESENCE_RENEW_S is at most half of A2A_PRESENCE_LEASE_S, or one late renewal ends it"
            )
        return self

    @property
    def canary_seconds(self) -> float:
        """Between two canaries; 0 is none. A gateway at the hub has no way to time."""
        return (1.0 if self.canary_s is None else self.canary_s) if self.hub_domain else 0.0

    def limits(self) -> Limits:
        """What the core needs of them."""
        return Limits(
            heartbeat_seconds=self.heartbeat_s,
            idle_seconds=self.idle_s,
            auth_seconds=self.auth_timeout_s,
            token_grace_seconds=self.token_grace_s,
            stall_seconds=self.stall_s,
            sse_idle_seconds=self.sse_idle_s,
            task_idle_seconds=self.task_idle_s,
            task_wait_seconds=self.task_wait_s,
            max_channels=self.max_channels,
            max_connections_per_principal=self.max_connections_per_principal,
            connection_policy=Policy(self.connection_limit_policy),
            client_rate=self.client_rate,
            client_burst=self.client_burst,
            write_high_bytes=self.write_high_bytes,
            presence_lease_seconds=self.presence_lease_s,
            presence_grace_seconds=self.presence_grace_s,
            presence_burst=self.presence_burst,
            typing_rate=self.typing_rate,
        )
