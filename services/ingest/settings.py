"""What ingest reads of the environment, beside what every service does."""

from pydantic import Field

from services.chassis.settings import HttpUrl, TokenSettings

_MIB = 1024**2


class IngestSettings(TokenSettings):
    """Settings of `python -m services.ingest`."""

    nats_monitor_url: HttpUrl | None = Field(
        default=None, description="the NATS server's monitoring port, as http://127.0.0.1:8222; tells its disk sync"
    )
    batch_max_bytes: int = Field(default=16 * _MIB, ge=1024, description="largest body of a batch")
    # Bodies stay in memory until their events are stored; without a bound on all of them, slow storage would end it.
    bodies_max_bytes: int = Field(default=128 * _MIB, ge=1024, description="all request bodies held at once")
    body_timeout_s: float = Field(default=30, gt=0, description="time in which a request's body must have arrived")
    publish_window: int = Field(default=256, ge=1, le=4096, description="publishes awaiting their acknowledgement")
    ack_timeout_s: float = Field(default=2, gt=0, le=30, description="time for one acknowledgement before another try")
    store_deadline_s: float = Field(default=30, gt=0, description="time in which all events of a request are stored")
