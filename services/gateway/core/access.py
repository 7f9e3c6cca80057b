"""Access: the one place that decides who may see which events, and whom (PROTOCOL §2).

A grant names the routing key under which events reach the subscriber, and the NATS filters that
select the same events from a stream. Live, replay and history all go by the grant, so none of
them can show what another would not.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.channels import ChannelKind, Channels, InvalidChannel, Narrowed, Sees, narrowed_key, split
from contracts.errors import ErrorCode, Problem
from contracts.principal import Principal


@dataclass(frozen=True, slots=True)
class Grant:
    """What one principal sees of one channel."""

    channel: str
    kind: ChannelKind
    # The routing key that every visible event bears, and no other event does.
    key: str
    narrowing: Mapping[str, str] | None = None

    @property
    def stream(self) -> str:
        """The stream the channel reads."""
        return self.kind.stream

    @property
    def filters(self) -> tuple[str, ...]:
        """NATS filters that together select what the key selects."""
        return self.kind.filters(self.channel.partition(":")[2], self.narrowing)

    def sees(self, sub: str, role: str) -> bool:
        """Whether its holder sees another principal of the channel, as a member or as a signal's sender.

        Who sees the whole channel sees everybody. Who is narrowed to a token sees those who are not narrowed to the
        same one, and itself: on an intent a node sees the buyer and admins, and never another node.
        """
        if self.narrowing is None:
            return True
        rule = self.kind.access.get(role)
        if isinstance(rule, Narrowed) and rule.token in self.narrowing:
            return sub == self.narrowing[rule.token]
        return rule is not None


class Access:
    """Judges subscriptions by the declared channels."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    def all_of(self, principal: Principal, kind_name: str) -> Problem | None:
        """Why `principal` may not have every channel of a kind that its role is granted; None where it may."""
        kinds = [kind for kind in self._channels.kinds() if kind.name == kind_name]
        if not any(principal.role in kind.access for kind in kinds):
            return Problem(ErrorCode.FORBIDDEN, f"role {principal.role} may not subscribe to {kind_name}:*")
        if principal.channels is not None and f"{kind_name}:*" not in principal.channels:
            return Problem(ErrorCode.FORBIDDEN, f"the token's channels do not include {kind_name}:*")
        return None

    def stream_of(self, kind: str, channel_id: str) -> str | None:
        """The stream that a channel reads; None where there is no such channel."""
        found = self._channels.find(kind, channel_id)
        return None if found is None else found.stream

    def grant(self, principal: Principal, channel: str) -> Grant | Problem:
        """What `principal` sees of `channel`, or why nothing: grammar first, then kind, then role (PROTOCOL §8)."""
        try:
            kind_name, channel_id = split(channel)
        except InvalidChannel:
            return Problem(ErrorCode.INVALID_CHANNEL)
        kind = self._channels.find(kind_name, channel_id)
        if kind is None:
            return Problem(ErrorCode.UNKNOWN_CHANNEL, f"there is no channel {channel}")
        if not principal.covers(channel):
            return Problem(ErrorCode.FORBIDDEN, f"the token's channels do not include {channel}")
        match kind.access.get(principal.role):
            case Sees.ALL:
                return Grant(channel, kind, channel)
            case Sees.OWN if channel_id == principal.sub:
                return Grant(channel, kind, channel)
            case Narrowed(token):
                return Grant(channel, kind, narrowed_key(channel, token, principal.sub), {token: principal.sub})
            case _:
                return Problem(ErrorCode.FORBIDDEN, f"role {principal.role} may not subscribe to {channel}")
