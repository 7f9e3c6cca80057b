"""What plans reads of the environment, beside what every service that takes tokens does."""

from typing import Annotated

from pydantic import AfterValidator, Field

from services.chassis.settings import HttpUrl, TokenSettings
from services.plans.loading import load

EXAMPLE = "services.plans.example:executor"


def _executor(text: str) -> str:
    load(text)
    return text


def _nothing(domain: str) -> str:
    if domain:
        raise ValueError("plans runs at the hub, and is asked from every region; leave this empty")
    return domain


class PlansSettings(TokenSettings):
    """Settings of `python -m services.plans`."""

    nats_monitor_url: HttpUrl | None = Field(
        default=None, description="the NATS server's monitoring port, as http://127.0.0.1:8222; tells its disk sync"
    )
    ack_timeout_s: float = Field(default=2, gt=0, le=30, description="time for one acknowledgement before another try")
    store_deadline_s: float = Field(default=10, gt=0, description="time in which a change is stored or refused")
    hub_domain: Annotated[str, AfterValidator(_nothing)] = Field(default="", description="plans runs at the hub: empty")
    plan_executor: Annotated[str, AfterValidator(_executor)] = Field(
        default=EXAMPLE, description="what executes plans: module:factory, see docs/plans.md"
    )
    plans_running: int = Field(default=1000, ge=1, le=10_000, description="plans this replica executes at once")
    plan_lease_s: float = Field(
        default=15, ge=1, le=600, description="after so long without a sign of life another replica takes a plan over"
    )
    plan_cancel_s: float = Field(default=5, gt=0, le=60, description="time an executor has to end when it is cancelled")
    plan_idle_s: float = Field(
        default=6 * 24 * 3600,
        ge=1,
        le=6.5 * 24 * 3600,
        description="a plan of which nothing was heard for so long fails; its events would age out",
    )
    plan_sweep_s: float = Field(
        default=6 * 3600, ge=1, le=24 * 3600, description="how often snapshots and silent plans are looked after"
    )
    plan_step_s: float = Field(default=0.5, ge=0, le=60, description="pace of the example agent's steps")
