"""The hub's role of a relay: the streams and their replay mirrors, looked at and told."""

from collections.abc import Mapping, Sequence

from nats.aio.client import Client
from prometheus_client import CollectorRegistry

from contracts.topology import StreamSpec
from services.chassis.jetstream import UNKNOWN_SYNC, durability, sync_interval
from services.chassis.telemetry import logger
from services.relay.metrics import RelayMetrics
from services.relay.reconciler import Reconciler
from services.relay.report import StreamReport, told

_log = logger(__name__)


class HubRole:
    """What the relay of a hub does and tells."""

    def __init__(
        self,
        specs: Sequence[StreamSpec],
        registry: CollectorRegistry,
        *,
        allow_shrink: bool,
        stall_seconds: float,
        monitor_url: str | None,
    ) -> None:
        self._specs = specs
        self._allow_shrink = allow_shrink
        self._stall_seconds = stall_seconds
        self._monitor_url = monitor_url
        self._metrics = RelayMetrics(registry)
        self._sync = UNKNOWN_SYNC
        # None until NATS was reached.
        self._reconciler: Reconciler | None = None
        # What the last look that was answered found; None before the first.
        self._reports: list[StreamReport] | None = None
        # Why the server has no room for a stream; judged at the first look only.
        self.no_room: str | None = None

    def attach(self, client: Client) -> None:
        """NATS was reached."""
        self._reconciler = Reconciler(
            client, self._specs, allow_shrink=self._allow_shrink, stall_seconds=self._stall_seconds
        )

    async def round(self) -> None:
        """One look.

        Raises:
            nats.errors.Error: NATS does not answer.
        """
        if self._reconciler is None:
            return
        reports = await self._reconciler.round()
        is_first, self._reports = self._reports is None, reports
        self._metrics.observe(reports)
        if self._monitor_url is not None:
            self._sync = await sync_interval(self._monitor_url)
        self._tell(reports, is_first)

    def failed(self) -> None:
        """A look was not answered."""
        self._metrics.failed()

    def _tell(self, reports: Sequence[StreamReport], is_first: bool) -> None:
        wrong = told(reports, kept=False)
        for reason in wrong:
            _log.error("not_as_declared", reason=reason)
        if is_first:
            for reason in told(reports, kept=True):
                _log.warning("kept_as_it_is", reason=reason)
            _log.info("converged" if not wrong else "not_converged", **self.facts())
            if any(report.no_room for report in reports):
                self.no_room = wrong[0].partition(": ")[2]

    def failing(self) -> str | None:
        """Why the streams are not as declared."""
        if self._reports is None:
            return "the streams have not been read yet"
        return "; ".join(told(self._reports, kept=False)) or None

    def facts(self) -> Mapping[str, object]:
        """What `/readyz` tells beside that."""
        reports = self._reports or []
        states = [report.stream for report in reports if report.stream is not None]
        return {
            "durability": durability(states, self._sync),
            "epochs": {found.name: found.epoch for found in states},
            "refused": told(reports, kept=True),
        }
