"""What the relay reads of the environment."""

from pydantic import Field

from services.chassis.settings import HttpUrl, ServiceSettings


class RelaySettings(ServiceSettings):
    """The relay's settings; sizes and copies of the streams are those that every service knows."""

    declare: bool = Field(default=True, description="not for the relay: it always makes the streams")
    relay_interval_s: float = Field(default=5, gt=0, le=3600, description="time between two looks at the site")
    relay_stall_s: float = Field(
        default=60, gt=0, description="a mirror that lacks events and gets none for so long is made again"
    )
    nats_monitor_url: HttpUrl | None = Field(
        default=None, description="the NATS server's monitoring port, as http://127.0.0.1:8222; tells its disk sync"
    )
