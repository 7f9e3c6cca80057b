"""Channels: what a client subscribes to, declared as data (PROTOCOL §2).

A kind says which stream it reads, which token positions its id selects, and what each role may
see of it. The keys of an event and the grant of a subscriber are both computed from these
declarations, so live, replay and history cannot disagree. Who may subscribe to one given channel
is decided in `services.gateway.core.access`; this file only holds the rules.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from contracts.errors import ContractError
from contracts.principal import ADMIN, BUYER, NODE
from contracts.subjects import MARKET, PLACEHOLDER, PLAN, Layout, is_id

ID = "{id}"
"""In a selection: the token equals the channel's id."""


class InvalidChannel(ContractError):
    """The text is not `kind:id`."""


class Sees(Enum):
    """What a role sees of a kind of channel, where it is not narrowed to one token."""

    ALL = "every channel of the kind, whole"
    OWN = "the channel whose id is the principal's own"


@dataclass(frozen=True, slots=True)
class Narrowed:
    """The role may subscribe to any id, and sees only events whose `token` is the principal's own id."""

    token: str


Access = Sees | Narrowed
Selection = Mapping[str, str]


@dataclass(frozen=True)
class ChannelKind:
    """One kind of channel: a named filter over one stream."""

    name: str
    stream: str
    layout: Layout
    # An event is in the channel if any one of these fits; a token maps to a fixed value or to `ID`.
    selections: tuple[Selection, ...]
    access: Mapping[str, Access]
    # The only id of a kind that has just one channel, as `intents` of `market:intents`.
    only_id: str | None = None
    # Whether a channel of this kind is over after an event marked `final` (PROTOCOL §6).
    ends: bool = False

    @property
    def narrowing_tokens(self) -> tuple[str, ...]:
        """The tokens to which some role is narrowed, each once."""
        return tuple(dict.fromkeys(rule.token for rule in self.access.values() if isinstance(rule, Narrowed)))

    def filters(self, channel_id: str, narrowing: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """The NATS filters that together are the channel, intersected with `narrowing`; contradictions are left out."""
        found = []
        for selection in self.selections:
            keys = {token: channel_id if value == ID else value for token, value in selection.items()}
            if any(keys.get(token, value) != value for token, value in (narrowing or {}).items()):
                continue
            found.append(self.layout.filter({**keys, **(narrowing or {})}))
        return tuple(found)

    def ids_of(self, values: Mapping[str, str]) -> Iterator[str]:
        """The ids of this kind whose channel holds an event with these token values."""
        for selection in self.selections:
            if all(values[token] == wanted for token, wanted in selection.items() if wanted != ID):
                chosen = [values[token] for token, wanted in selection.items() if wanted == ID]
                if PLACEHOLDER not in chosen:
                    yield chosen[0] if chosen else self.only_id or ""


def narrowed_key(channel: str, token: str, value: str) -> str:
    """The routing key of a channel narrowed to the events whose `token` is `value`."""
    return f"{channel}|{token}={value}"


def channel_of(key: str) -> str:
    """The channel whose routing key this is, narrowed or not."""
    return key.partition("|")[0]


def split(channel: str) -> tuple[str, str]:
    """The kind and the id of a channel's name.

    Raises:
        InvalidChannel: the text is not `kind:id`, or the id is not of the grammar.
    """
    kind, colon, channel_id = channel.partition(":")
    if not colon or not is_id(kind) or not is_id(channel_id):
        raise InvalidChannel(f"not a channel: {channel[:140]!r}")
    return kind, channel_id


class Channels:
    """The kinds one process knows; adding a kind needs nothing but its declaration."""

    def __init__(self, kinds: Iterable[ChannelKind]) -> None:
        self._kinds = {(kind.name, kind.only_id): kind for kind in kinds}
        self._by_stream: dict[str, list[ChannelKind]] = {}
        for kind in self._kinds.values():
            self._by_stream.setdefault(kind.stream, []).append(kind)

    def find(self, kind: str, channel_id: str) -> ChannelKind | None:
        """The declaration behind `kind:id`, or None where there is no such channel."""
        return self._kinds.get((kind, None)) or self._kinds.get((kind, channel_id))

    def kinds(self) -> Iterator[ChannelKind]:
        """Every declared kind."""
        yield from self._kinds.values()

    def keys(self, stream: str, subject: str) -> tuple[str, ...]:
        """The routing keys of an event: its channels' names first, then each narrowed to each of its own tokens.

        Raises:
            InvalidSubject: the subject does not fit the layout of the stream's channels.
        """
        kinds = self._by_stream.get(stream, [])
        if not kinds:
            return ()
        layout = kinds[0].layout
        values = dict(zip(layout.tokens, layout.parse(subject), strict=True))
        plain: dict[str, None] = {}
        narrowed: dict[str, None] = {}
        for kind in kinds:
            for channel_id in kind.ids_of(values):
                name = f"{kind.name}:{channel_id}"
                plain[name] = None
                for token in kind.narrowing_tokens:
                    if values[token] != PLACEHOLDER:
                        narrowed[narrowed_key(name, token, values[token])] = None
        return (*plain, *narrowed)


_DEAL: Mapping[str, Access] = {ADMIN: Sees.ALL, BUYER: Narrowed("buyer"), NODE: Narrowed("node")}

CHANNELS = (
    ChannelKind("buyer", "MARKET", MARKET, ({"buyer": ID},), {ADMIN: Sees.ALL, BUYER: Sees.OWN}),
    ChannelKind("node", "MARKET", MARKET, ({"node": ID},), {ADMIN: Sees.ALL, NODE: Sees.OWN}),
    ChannelKind("intent", "MARKET", MARKET, ({"intent": ID},), _DEAL),
    ChannelKind("negotiation", "MARKET", MARKET, ({"aggregate": "negotiation", "aggregate_id": ID},), _DEAL),
    ChannelKind(
        "order",
        "MARKET",
        MARKET,
        ({"aggregate": "order", "aggregate_id": ID}, {"aggregate": "payment", "aggregate_id": ID}),
        _DEAL,
    ),
    ChannelKind(
        "market",
        "MARKET",
        MARKET,
        ({"node": PLACEHOLDER, "aggregate": "intent"},),
        {ADMIN: Sees.ALL, NODE: Sees.ALL},
        only_id="intents",
    ),
    ChannelKind("admin", "MARKET", MARKET, ({},), {ADMIN: Sees.ALL}, only_id="market"),
    ChannelKind(
        "plan",
        "PLANS",
        PLAN,
        ({"plan": ID},),
        {ADMIN: Sees.ALL, BUYER: Narrowed("owner"), NODE: Narrowed("owner")},
        ends=True,
    ),
    ChannelKind("admin", "PLANS", PLAN, ({},), {ADMIN: Sees.ALL}, only_id="plans"),
)
