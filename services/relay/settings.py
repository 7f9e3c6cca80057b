"""What the relay reads of the environment."""

from pydantic import Field

from services.chassis.settings import HttpUrl, ServiceSettings
from services.relay.steps import Retention


class RelaySettings(ServiceSettings):
    """The relay's settings; sizes and copies of the streams are those that every service knows."""

    declare: bool = Field(default=True, description="not for the relay: it always makes the streams")
    relay_interval_s: float = Field(default=5, gt=0, le=3600, description="time between two looks at the site")
    relay_stall_s: float = Field(
        default=60, gt=0, description="a mirror that lacks events and gets none for so long is made again"
    )
    mirror_max_age_s: int | None = Field(
        default=None, ge=120, description="how long a region keeps events; unset: as long as the hub"
    )
    mirror_max_bytes: int | None = Field(
        default=None, ge=1024**2, description="how much a region keeps of each stream; unset: as much as the hub"
    )
    region_behind_s: float = Field(
        default=10, gt=0, description="a region further behind the hub is not ready, until it is within a quarter of it"
    )
    nats_monitor_url: HttpUrl | None = Field(
        default=None, description="the NATS server's monitoring port, as http://127.0.0.1:8222; tells its disk sync"
    )

    @property
    def is_region(self) -> bool:
        """Whether the site is a region of a hub: it keeps mirrors, and the hub has the streams."""
        return bool(self.hub_domain)

    @property
    def retention(self) -> Retention:
        """What a region keeps."""
        return Retention(self.mirror_max_age_s, self.mirror_max_bytes)
