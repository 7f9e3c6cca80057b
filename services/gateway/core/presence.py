"""Presence: who is in which channel, as one replica tells it to its clients (PROTOCOL §5, DESIGN decision 8).

What the clients here do goes into the roster, and its pages to the store; what other replicas wrote comes from the
store, for channels that somebody here watches and for no others. A watcher is a version of a channel's members:
whoever does not keep up is brought up to date later, from the changes or from the whole list, and holds no queue.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Protocol

from msgspec import Raw

from contracts.presence import Member, encode_page
from services.gateway.core.access import Grant
from services.gateway.core.connection import Connection
from services.gateway.core.lease import Leases
from services.gateway.core.membership import Key, PageKey
from services.gateway.core.roster import Roster
from services.gateway.core.signals import Signals
from services.gateway.core.view import Told, View, Watcher
from services.gateway.core.wheel import Wheel

# How long a watcher waits for the store before it is told what is known here.
_PATIENCE_SECONDS = 2.0
# How often the log is looked through for those who are no party yet.
_LOOK_SECONDS = 1.0
# Watchers brought up to date in one turn of the loop, so that events are not kept waiting.
_WATCHERS_A_TURN = 256


class Store(Protocol):
    """What the core asks of the bus; nothing here waits."""

    def write(self, channel: str, page: int, value: bytes | None) -> None:
        """Have this page of ours say this, or be gone."""

    def watch(self, channel: str) -> None:
        """Bring this channel's pages now, and each again when it changes."""

    def unwatch(self, channel: str) -> None:
        """Bring no more of it."""

    def bury(self, replica: str) -> None:
        """That replica is gone for good: remove what it wrote."""


class Presence:
    """One replica's; stands in the timer wheel only while there is something to do."""

    def __init__(
        self,
        replica: str,
        signals: Signals,
        wheel: Wheel,
        *,
        now: Callable[[], float],
        wake: Callable[[Callable[[], None]], None],
        on_fault: Callable[[Connection, Exception], None],
        lease_seconds: float,
        grace_seconds: float,
    ) -> None:
        """`replica`: the name under which its members are written; `wake`: has a call made in the loop's next turn."""
        self.replica = replica
        self.signals = signals
        self.parties = signals.parties
        self.roster = Roster(grace_seconds)
        self.leases = Leases(lease_seconds, grace_seconds)
        # Set by the application; without one there are the members here and no others.
        self.store: Store | None = None
        # Wheel: when it wants to be woken.
        self.due: float | None = None
        self._wheel = wheel
        self._now = now
        self._wake = wake
        self._on_fault = on_fault
        self._views: dict[str, View] = {}
        # Those whose watchers wait for the store, and those that may have changed since they were settled.
        self._opening: dict[View, None] = {}
        self._touched: dict[View, None] = {}
        # Watchers that have something to be told, in the order in which they are.
        self._behind: dict[Watcher, View] = {}
        self._awake = False
        # Whether the log is being looked through for those who are no party yet.
        self._looks = False

    @property
    def watched(self) -> int:
        """How many channels somebody here watches."""
        return len(self._views)

    def _soon(self) -> None:
        """Something has changed: deal with it together with what else does in this slot of the wheel."""
        self._wheel.put(self, self._now())

    # Members here.

    def enter(self, channel: str, key: Key, seat: Hashable, data: Raw, at: int) -> None:
        """A connection here is in the channel and says this; `at`: Unix milliseconds."""
        self.roster.enter(channel, key, seat, data, at)
        self._soon()

    def leave(self, channel: str, key: Key, seat: Hashable, *, at_once: bool) -> None:
        """It is in the channel no more; `at_once`: without the grace that is for connections that were lost."""
        self.roster.leave(channel, key, seat, self._now(), at_once=at_once)
        self._soon()

    def rewrite(self) -> None:
        """Others may have removed what was written of the members here."""
        self.roster.touch_all()
        self._soon()

    def wait_for_party(self, grant: Grant, who: Hashable, call: Callable[[], None]) -> None:
        """Call once the holder of `grant` has become a party."""
        self.parties.wait(grant, who, call)
        self._wheel.put(self, self._now() + _LOOK_SECONDS)

    # Watchers.

    def watch(self, watcher: Watcher) -> None:
        """Tell it who is in its channel, and what changes."""
        view = self._view(watcher.grant.channel)
        view.watchers[watcher] = None
        if view.ready_by is None:
            self._bring(watcher, view)

    def unwatch(self, watcher: Watcher) -> None:
        """Tell it no more. Idempotent."""
        view = self._views.get(watcher.grant.channel)
        self._behind.pop(watcher, None)
        if view is not None:
            view.watchers.pop(watcher, None)
            self._let_go(view)

    def ask(self, channel: str, told: Told) -> None:
        """Tell once who is in a channel; None where the store cannot say. Whoever asks `forget_guest`s."""
        view = self._view(channel)
        view.guests[told] = None
        if view.ready_by is None:
            told(list(view.membership.members.values()))

    def forget_guest(self, channel: str, told: Told) -> None:
        """It has been told, or waits no more."""
        view = self._views.get(channel)
        if view is not None:
            view.guests.pop(told, None)
            self._let_go(view)

    def _view(self, channel: str) -> View:
        view = self._views.get(channel)
        if view is None:
            view = self._views[channel] = View(channel, self._now() + _PATIENCE_SECONDS)
            for number, found in self.roster.pages(channel):
                view.membership.put((self.replica, number), found)
            view.membership.settle()
            if self.store is None:
                view.ready_by = None
            else:
                self._wheel.put(self, self._now() + _PATIENCE_SECONDS)
                self._opening[view] = None
                self.store.watch(channel)
        return view

    def _let_go(self, view: View) -> None:
        if view.watchers or view.guests or self._views.get(view.channel) is not view:
            return
        del self._views[view.channel]
        self._opening.pop(view, None)
        self._touched.pop(view, None)
        if self.store is not None:
            self.store.unwatch(view.channel)

    def caught_up(self, watcher: Watcher) -> None:
        """Its client takes what is written again."""
        view = self._views.get(watcher.grant.channel)
        if view is not None and watcher in view.watchers and view.ready_by is None:
            self._later(watcher, view)

    # From the store.

    def told(self, channel: str, pages: Mapping[PageKey, Iterable[Member]], *, whole: bool) -> None:
        """What other replicas' pages of a watched channel say; `whole`: those that are not among them are gone."""
        view = self._views.get(channel)
        if view is None:
            return
        membership = view.membership
        for page in membership.others(self.replica) if whole else ():
            if page not in pages:
                membership.put(page, ())
        for page, found in pages.items():
            if page[0] in self.leases:
                membership.put(page, found)
        if whole and view in self._opening:
            self._open(view, is_whole=True)
        self._touched[view] = None
        self._soon()

    def renewed(self, replica: str) -> None:
        """A replica's lease was seen."""
        self.leases.renewed(replica, self._now())
        self._put_due()

    def ended(self, replica: str) -> None:
        """A replica's lease ran out."""
        self.leases.ended(replica, self._now())
        self._put_due()

    def deafened(self) -> None:
        """The store is not heard: whoever was there stays."""
        self.leases.deafened()

    def hears(self, living: set[str]) -> None:
        """The store is heard again, and these replicas have a lease."""
        self.leases.hears(living, self._now())
        self._put_due()

    # Time.

    def tick(self, now: float) -> float | None:
        """What is due by now; when to come again."""
        self.roster.pass_time(now)
        for channel, number, found in self.roster.take_changed():
            view = self._views.get(channel)
            if view is not None:
                view.membership.put((self.replica, number), found)
                self._touched[view] = None
            if self.store is not None:
                self.store.write(channel, number, encode_page(found) if found else None)
        for replica in self.leases.take_ended(now):
            for view in self._views.values():
                view.membership.drop(replica)
                self._touched[view] = None
            if self.store is not None:
                self.store.bury(replica)
        for view in [view for view in self._opening if view.ready_by is None or view.ready_by <= now]:
            self._open(view, is_whole=False)
        touched, self._touched = self._touched, {}
        for view in touched:
            self._settle(view)
        if not self._looks:
            self._look()
        return self._next_due(now)

    def _look(self) -> None:
        self._looks = False  # so that there is a next time where this raises
        self._looks = self.parties.look()
        if self._looks:
            self._wake(self._look)

    def _next_due(self, now: float) -> float | None:
        waiting = min((view.ready_by for view in self._opening if view.ready_by is not None), default=None)
        look = now + _LOOK_SECONDS if self.parties.awaited else None
        dues = [due for due in (self.roster.due, self.leases.due, waiting, look) if due is not None]
        return min(dues, default=None)

    def _put_due(self) -> None:
        due = self.leases.due
        if due is not None:
            self._wheel.put(self, due)

    # Telling.

    def _open(self, view: View, *, is_whole: bool) -> None:
        view.ready_by = None
        self._opening.pop(view, None)
        view.membership.settle()
        for watcher in view.watchers:
            self._later(watcher, view)
        for told in list(view.guests):
            told(list(view.membership.members.values()) if is_whole else None)

    def _settle(self, view: View) -> None:
        if view.membership.settle() and view.ready_by is None:
            for watcher in view.watchers:
                self._later(watcher, view)

    def _later(self, watcher: Watcher, view: View) -> None:
        self._behind[watcher] = view
        if not self._awake:
            self._awake = True
            self._wake(self._run)

    def _run(self) -> None:
        self._awake = False
        for _ in range(min(_WATCHERS_A_TURN, len(self._behind))):
            watcher = next(iter(self._behind))
            self._bring(watcher, self._behind.pop(watcher))
        if self._behind:
            self._awake = True
            self._wake(self._run)

    def _bring(self, watcher: Watcher, view: View) -> None:
        connection = watcher.connection
        try:
            while connection.writable and not connection.closed and self._tell(watcher, view):
                pass
        except Exception as error:  # noqa: BLE001  # one connection's fault is not the others'
            connection.abandon()
            self._on_fault(connection, error)

    def _tell(self, watcher: Watcher, view: View) -> bool:
        """Write the next piece; whether there was one."""
        connection, version = watcher.connection, view.membership.version
        if watcher.pages is not None:
            page = next(watcher.pages, None)
            if page is None:
                watcher.pages = None
            else:
                connection.tell(page)
            return True
        if watcher.version == version:
            return False
        changes = None if watcher.version is None else view.membership.since(watcher.version)
        watcher.version = version
        if changes is None:
            self._settle(view)  # the list is of the members as they are now
            watcher.version = view.membership.version
            watcher.pages = iter(view.list_for(watcher.grant))
            return True
        frames = [frame for one in changes if (frame := view.frame_for(one, watcher.grant)) is not None]
        if frames:
            connection.tell(b"".join(frames))
        return True
