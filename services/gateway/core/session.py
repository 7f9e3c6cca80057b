"""The session: one WebSocket client, from its first message to its close code (PROTOCOL §5, §8).

Takes whole messages, writes whole frames. Decides what each op does and when a client has to go;
knows nothing of sockets, masks or HTTP. A bad message is answered and harms nobody else.
"""

from contracts import wire
from contracts.cursor import Cursor
from contracts.errors import CloseCode, ErrorCode, Problem
from contracts.principal import Principal
from services.gateway.core.access import Grant
from services.gateway.core.attendance import Attendance
from services.gateway.core.conduct import Conduct
from services.gateway.core.frames import PING, close_frame, text_frame
from services.gateway.core.replay import Gap, Start, start_of
from services.gateway.core.replica import Replica
from services.gateway.core.sink import Sink
from services.gateway.core.speaker import Speaker
from services.gateway.core.subscription import Subscription

_MALFORMED = {ErrorCode.INVALID_JSON, ErrorCode.INVALID_MESSAGE}


class Session(Speaker):
    """One WebSocket connection."""

    __slots__ = (
        "_attendance",
        "_beat_at",
        "_conduct",
        "_expires_at",
        "_heard_at",
        "_progress_at",
        "_unsent",
        "connection_id",
        "due",
        "principal",
    )

    def __init__(self, replica: Replica, sink: Sink, principal: Principal | None) -> None:
        """`principal`: whom the handshake's token named; None where the first message has to bring one."""
        super().__init__(replica, sink)
        now = replica.now()
        self.principal: Principal | None = None
        self.connection_id = replica.new_id()
        # Wheel: when this session wants to be woken.
        self.due: float | None = None
        # When the last frame came, and when the next heartbeat goes.
        self._heard_at = now
        self._beat_at = now + self._beat_interval()
        # When the token and its grace end; before authentication, when patience ends.
        self._expires_at = now + replica.limits.auth_seconds
        # While paused: since when nothing has been sent, and how much was waiting then.
        self._progress_at = now
        self._unsent = 0
        # How it behaves; made with the first message.
        self._conduct: Conduct | None = None
        # What it does with presence and signals; made when it first does.
        self._attendance: Attendance | None = None
        replica.connections[self] = None
        replica.tally.count(replica.tally.opened, "websocket")
        if (away := replica.turns_away()) is not None:
            self.refuse(away)
        elif principal is not None:
            self._welcome(principal)
        else:
            replica.wheel.put(self, self._next_due())

    # Messages in.

    def heard(self, *, counts: bool) -> None:
        """A frame came that is no whole message; where it `counts`, against the client's rate, without an answer."""
        self._heard_at = self.replica.now()
        if counts and not self.closed:
            conduct, limits = self._conducting(), self.replica.limits
            wait = conduct.excess(limits, self._heard_at)
            if wait and conduct.goes_on(limits):
                self._error(_too_fast(wait))
                self.end(CloseCode.RATE)

    def receive(self, text: bytes) -> None:
        """One whole text message."""
        self._heard_at = self.replica.now()
        if self.closed or not self._within_rate(text):
            return
        try:
            message = wire.parse(text)
        except wire.InvalidClientMessage as error:
            self.answer_malformed(error.problem, error.message_id)
            return
        if isinstance(message, wire.Auth):
            self._authenticate(message)
        elif self.principal is None:
            self._error(Problem(ErrorCode.UNAUTHENTICATED, "the first message must be auth"), message.id)
            self.end(CloseCode.UNAUTHENTICATED)
        elif isinstance(message, wire.Subscribe):
            self._subscribe(self.principal, message)
        elif isinstance(message, wire.Resume):
            self._resume(self.principal, message)
        elif isinstance(message, wire.Unsubscribe):
            self._unsubscribe(message)
        elif isinstance(message, wire.Heartbeat):
            self._send(wire.heartbeat(self._cursors(), message.id))
        else:
            refused = self._attending(self.principal).take(message)
            if refused is not None:
                self._error(refused, message.id, message.channel)

    def answer_malformed(self, problem: Problem, message_id: wire.MessageId = None) -> None:
        """Answer what could not be acted on; the tenth malformed message in a minute closes 4001."""
        if self.closed:
            return
        self._error(problem, message_id)
        limits, now = self.replica.limits, self.replica.now()
        hopeless = problem.code in _MALFORMED and self._conducting().is_hopeless(limits, now)
        if hopeless or problem.code is ErrorCode.MESSAGE_TOO_LARGE:
            self.end(CloseCode.BAD_REQUEST)

    def _within_rate(self, text: bytes) -> bool:
        conduct, limits = self._conducting(), self.replica.limits
        wait = conduct.excess(limits, self._heard_at)
        if wait:
            self._error(_too_fast(wait), wire.id_of(text))
            if conduct.goes_on(limits):
                self.end(CloseCode.RATE)
        return not wait

    def _conducting(self) -> Conduct:
        if self._conduct is None:
            self._conduct = Conduct(self.replica.limits.client_burst, self.replica.now())
        return self._conduct

    # Authentication.

    def _authenticate(self, message: wire.Auth) -> None:
        def done(outcome: Principal | Problem) -> None:
            if self.closed:
                pass  # its client's close frame may be among what is held
            elif isinstance(outcome, Problem):
                self.refuse(outcome, message.id)
            elif self.principal is None:
                self._welcome(outcome, message.id)
            else:
                self._refresh(self.principal, outcome, message.id)
            self._sink.go_on()

        self._sink.hold()
        self.replica.authenticate(message.token, done)

    def _welcome(self, principal: Principal, message_id: wire.MessageId = None) -> None:
        problem = self.replica.admit(principal, self)
        if problem is not None:
            return self.refuse(problem, message_id)
        self._bind(principal)
        limits = self.replica.limits
        self._send(
            wire.welcome(
                self.connection_id,
                principal.sub,
                principal.role,
                self.replica.region,
                limits.heartbeat_seconds,
                limits.as_wire(),
                message_id,
            )
        )
        return None

    def _refresh(self, held: Principal, principal: Principal, message_id: wire.MessageId) -> None:
        if (principal.sub, principal.role) != (held.sub, held.role):
            return self.refuse(Problem(ErrorCode.FORBIDDEN, "a refresh must keep sub and role"), message_id)
        self._bind(principal)
        self._send(wire.authenticated(message_id))
        for reader in list(self.readers.values()):
            for subscription in list(reader.subscriptions.values()):
                if isinstance(self.replica.access.grant(principal, subscription.channel), Problem):
                    self._withdraw(subscription, None)
        return None

    def _bind(self, principal: Principal) -> None:
        self.principal = principal
        self._expires_at = self.replica.monotonic_deadline(principal)
        self.replica.wheel.put(self, self._next_due())

    # Subscriptions.

    def _subscribe(self, principal: Principal, message: wire.Subscribe) -> None:
        outcome = self._admissible(principal, message)
        if isinstance(outcome, Problem):
            return self._error(outcome, message.id, message.channel)
        grant, start = outcome
        if message.presence:
            self._attending(principal).expect(message.channel)
        types = None if message.types is None else frozenset(message.types)
        self.subscribe(self.replica.streams[grant.stream], (grant,), start, types, message.on_gap, message.id)
        return None

    def _admissible(self, principal: Principal, message: wire.Subscribe) -> tuple[Grant, Start] | Problem:
        grant = self.replica.access.grant(principal, message.channel)
        if isinstance(grant, Problem):
            return grant
        if self.find(message.channel) is not None:
            return Problem(ErrorCode.ALREADY_SUBSCRIBED)
        if self.subscription_count >= self.replica.limits.max_channels:
            return Problem(ErrorCode.TOO_MANY_SUBSCRIPTIONS, f"{self.replica.limits.max_channels} channels are allowed")
        start = start_of(message.cursor, message.since, message.last)
        if isinstance(start, Problem):
            return start
        if not self.replica.streams[grant.stream].is_open:
            return Problem(ErrorCode.REPLAY_UNAVAILABLE, "this gateway has not reached the event store yet", 1000)
        return grant, start

    def _resume(self, principal: Principal, message: wire.Resume) -> None:
        # Each is answered as one subscribe; but a message costs one of the client's rate, so not without a bound.
        most = 2 * self.replica.limits.max_channels
        if len(message.channels) > most:
            why = f"a resume names at most {most} channels"
            return self._error(Problem(ErrorCode.TOO_MANY_SUBSCRIPTIONS, why), message.id)
        for subscribe in message.subscribes():
            if not self.closed:
                self._subscribe(principal, subscribe)
        return None

    def _unsubscribe(self, message: wire.Unsubscribe) -> None:
        subscription = self.find(message.channel)
        if subscription is None:
            return self._error(Problem(ErrorCode.NOT_SUBSCRIBED), message.id, message.channel)
        self._withdraw(subscription, message.id)
        return None

    def _withdraw(self, subscription: Subscription, message_id: wire.MessageId) -> None:
        """End a subscription; who still waits for the answer to its subscribe gets one."""
        if subscription.start is not None:
            withdrawn = Problem(ErrorCode.NOT_SUBSCRIBED, "the subscription ended before it began")
            self._error(withdrawn, subscription.message_id, subscription.channel)  # type: ignore[arg-type]
        self.drop(subscription)
        self._send(wire.unsubscribed(message_id, subscription.channel))

    def _attending(self, principal: Principal) -> Attendance:
        if self._attendance is None:
            self._attendance = Attendance(self, (principal.sub, principal.role))
        return self._attendance

    def drop(self, subscription: Subscription) -> None:
        """End a subscription, and what the client was there for."""
        super().drop(subscription)
        if self._attendance is not None:
            self._attendance.dropped(subscription.channel)

    def on_subscribed(self, subscription: Subscription, cursor: Cursor, gap: Gap | None) -> None:
        """Answer the subscribe, and tell who is there."""
        super().on_subscribed(subscription, cursor, gap)
        if self._attendance is not None:
            self._attendance.begun(subscription.channel)

    def name_gap(self, subscription: Subscription, gap: Gap) -> None:
        """In band, or close 4203 where the subscription refuses gaps."""
        if subscription.on_gap == "refuse":
            self._error(gap.refusal(), None, subscription.channel)
            self.end(CloseCode.RESYNC)
        else:
            self.on_gap(subscription, gap)

    # Time.

    def pause(self) -> None:
        """The client does not keep up: note since when."""
        super().pause()
        self._progress_at, self._unsent = self.replica.now(), self._sink.unsent()
        self.replica.wheel.put(self, self._progress_at + self.replica.limits.stall_seconds)

    def resume(self) -> None:
        """The client keeps up again; while it did not, nobody listened to it either."""
        self._heard_at = self.replica.now()
        super().resume()
        if self._attendance is not None:
            self._attendance.caught_up()

    def tick(self, now: float) -> float | None:
        """What is due by now; when to come again."""
        limits = self.replica.limits
        if self.closed:
            self._sink.abort()
            return None
        if now >= self._expires_at:
            self._give_up()
        elif not self.writable and self._has_stalled(now):
            self.end(CloseCode.TOO_SLOW)
        elif self.writable and now >= self._heard_at + limits.idle_seconds:
            self.end(CloseCode.NO_HEARTBEAT)
        elif now >= self._beat_at:
            self._beat_at = now + self._beat_interval()
            if self.writable and self.principal is not None:
                self._sink.write(text_frame(wire.heartbeat(self._cursors())) + PING)
        return self._next_due()

    def _give_up(self) -> None:
        if self.principal is None:
            self._error(Problem(ErrorCode.UNAUTHENTICATED, "no auth message came in time"))
            self.end(CloseCode.AUTH_TIMEOUT)
        else:
            self._error(Problem(ErrorCode.TOKEN_EXPIRED))
            self.end(CloseCode.TOKEN_EXPIRED)

    def _has_stalled(self, now: float) -> bool:
        unsent = self._sink.unsent()
        if unsent < self._unsent:
            self._progress_at, self._unsent = now, unsent
        return now >= self._progress_at + self.replica.limits.stall_seconds

    def _next_due(self) -> float:
        limits = self.replica.limits
        if self.closed:
            return self.replica.now() + limits.close_seconds
        patience = self._heard_at + limits.idle_seconds if self.writable else self._progress_at + limits.stall_seconds
        return min(self._beat_at, self._expires_at, patience)

    def _beat_interval(self) -> float:
        # Sent early, so that the promised interval holds with the wheel's slot on top; spread, so as not to pulse.
        return self.replica.limits.heartbeat_seconds * (0.9 + 0.1 * self.replica.random())

    # The end.

    def refuse(self, problem: Problem, message_id: wire.MessageId = None) -> None:
        """Tell why, and close with the code that fits."""
        self._error(problem, message_id)
        self.end(problem.code.close_code)

    def announce_drain(self, reconnect_in_ms: int) -> None:
        """The replica is leaving: tell when to come back; until then everything goes on."""
        self._send(wire.drain(reconnect_in_ms))

    def drain(self, *, told: bool = False) -> None:
        """Close; where that was not `told` yet, say when to come back."""
        if not told:
            self._send(wire.drain(self.replica.reconnect_in_ms()))
        self.end(CloseCode.DRAIN)

    def let_go(self) -> None:
        """An admin closes it."""
        self.end(CloseCode.RESYNC)

    def end(self, code: CloseCode) -> None:
        """Close from our side: nothing is written after this. Idempotent."""
        if self.closed:
            return
        if code is CloseCode.REVOKED and self._attendance is not None:
            self._attendance.leave_all()
        self._sink.write(close_frame(code, code.reason))
        self.replica.tally.count(self.replica.tally.closed, code.reason)
        self.release()
        self._sink.close()
        self.replica.wheel.put(self, self.replica.now() + self.replica.limits.close_seconds)

    def abandon(self) -> None:
        """Let the client go; it will resume."""
        super().abandon()
        self._sink.abort()

    def release(self) -> None:
        """Leave everything behind. Idempotent."""
        super().release()
        self.replica.wheel.drop(self)
        if self in self.replica.connections:
            del self.replica.connections[self]
            if self.principal is not None:
                self.replica.dismiss(self.principal, self)


def _too_fast(wait: float) -> Problem:
    return Problem(ErrorCode.RATE_LIMITED, retry_after_ms=int(wait * 1000) + 1)
