"""The ledger of plans: the one way in which a plan changes or is read, over the chassis' event store.

Whoever publishes for a plan, in this process or in one of its own, does it through here: the aggregate decides, the
stream's expected sequence holds it to that, and a cause that comes again changes nothing.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from contracts.a2a import is_final
from contracts.contract import ContractViolation
from contracts.errors import ErrorCode, Problem, Refused
from contracts.subjects import PLAN
from services.chassis.aggregates import Aggregate, Cause, Change, Past, Target, View
from services.chassis.store import EventStore
from services.chassis.storemetrics import StoreMetrics
from services.chassis.streams import Streams
from services.plans import domain
from services.plans.domain import Plan
from services.plans.snapshots import PlanDirectory

# Of the causes that a plan remembers: as many as may be in flight at once, and then some.
_REMEMBERED = 64
_MOST_FOLDS = 4000

AGGREGATE: Aggregate[Plan] = Aggregate(
    "plan",
    Plan,
    domain.evolve,
    stream="PLANS",
    layout=PLAN,
    correlation="contextId",
    id_key="plan",
    kind_key=None,
    remembers=_REMEMBERED,
    is_final=is_final,
    ended=lambda plan: plan.is_over,
)

Decide = Callable[[Plan | None], domain.Decision]


class Ledger:
    """Plans as they are stored."""

    def __init__(self, events: EventStore, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._events = events
        self._clock = clock

    def now(self) -> datetime:
        """The moment that events bear."""
        return self._clock()

    @staticmethod
    def target(owner: str, plan_id: str) -> Target[Plan]:
        """The plan's place.

        Raises:
            InvalidSubject: one of them is no id.
        """
        return AGGREGATE.at(plan_id, owner=owner)

    async def find(self, plan_id: str) -> Target[Plan] | None:
        """The plan with this id, whoever owns it; costs a search where nobody here has seen it lately."""
        return await self._events.find(AGGREGATE, plan_id)

    async def change(self, target: Target[Plan], cause: Cause, decide: Decide) -> Change[Plan]:
        """Store what is decided.

        Raises:
            Refused: as the plan says; `invalid_event` where what was decided does not fit its contract.
        """
        try:
            change = await self._events.change(target, cause, decide)
        except ContractViolation as error:
            raise Refused(Problem(ErrorCode.INVALID_EVENT, str(error)[:500])) from error
        if change.state is not None and change.state.is_over:
            self._events.release(target)
        return change

    async def view(self, target: Target[Plan]) -> View[Plan]:
        """The plan now, and the cursor at which it is so."""
        found = await self._events.view(target)
        if found.state is None or found.state.is_over:
            self._events.release(target)
        return found

    async def past(self, target: Target[Plan], last: int) -> Past[Plan]:
        """The plan now and as of a sequence."""
        found = await self._events.past(target, last)
        if found.now.state is None or found.now.state.is_over:
            self._events.release(target)
        return found

    async def snapshot(self, target: Target[Plan]) -> None:
        """Write its snapshot now."""
        await self._events.snapshot(target)
        self._events.release(target)


def open_ledger(
    streams: Streams,
    directory: PlanDirectory,
    metrics: StoreMetrics,
    *,
    source: str,
    ack_seconds: float = 2.0,
    deadline_seconds: float = 10.0,
) -> Ledger:
    """A ledger over these streams; `source` is what its events bear."""
    store = EventStore(
        streams,
        directory,
        source=source,
        metrics=metrics,
        ack_seconds=ack_seconds,
        deadline_seconds=deadline_seconds,
        most_folds=_MOST_FOLDS,
    )
    return Ledger(store)
