"""Parties: who takes part in a channel that it may subscribe to and sees only narrowed (PROTOCOL §2).

A stranger's subscription is legal and empty; so that nobody can probe who is where, it sees no members and nobody
sees it. A party is who can see at least one stored event of the channel. A yes is remembered; a no is asked again,
at most once in a while, and becomes a yes with the first event that the log brings. An archive that is away has said
neither: for whoever waits it is asked again until it has.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from functools import partial

from services.gateway.core.access import Grant
from services.gateway.core.log import Life, Page
from services.gateway.core.replay import Answer, NeedNewest
from services.gateway.core.stream import Stream

_MOST_YES = 50_000
_MOST_NO = 10_000
_ASK_AGAIN_SECONDS = 5.0

# Takes whether one is a party; None where that cannot be known now.
Told = Callable[[bool | None], None]


class Parties:
    """Judges, for all connections of a replica."""

    def __init__(self, streams: Mapping[str, Stream], now: Callable[[], float]) -> None:
        self._streams = streams
        self._now = now
        # By a grant's key, the least lately used first: who is a party, and when the archive was asked about who may be
        # none: False where it said so, None where it did not answer.
        self._yes: OrderedDict[str, None] = OrderedDict()
        self._no: OrderedDict[str, tuple[float, bool | None]] = OrderedDict()
        # Who waits to become a party, by stream and key; and up to where the log has been looked through for them.
        self._outside: dict[str, dict[str, dict[Hashable, Callable[[], None]]]] = {}
        self._looked: dict[str, int] = {}
        # Of those who wait, by key, whom the archive has said nothing about.
        self._unsure: dict[str, Grant] = {}
        # The lives in which all this is true.
        self._lives: dict[str, Life] = {}

    @property
    def awaited(self) -> bool:
        """Whether anybody waits to become a party."""
        return bool(self._outside)

    def judge(self, grant: Grant, told: Told) -> None:
        """Tell whether who holds `grant` is a party: at once where that is known, else once the archive answers."""
        stream = self._streams[grant.stream]
        if stream.log.life is not self._lives.get(stream.name):
            self._lives[stream.name] = stream.log.life
            self._yes.clear()
            self._no.clear()
        if grant.narrowing is None or self._is_known(grant, stream):
            told(True)
        elif (lately := self._asked_lately(grant.key)) is not None:
            told(lately[1])
        else:
            self._ask(grant, told)

    def _ask(self, grant: Grant, told: Told) -> None:
        stream = self._streams[grant.stream]
        if stream.log.low == 0:
            told(False)  # all that is stored is in the log
        else:
            need = NeedNewest(grant.filters, stream.log.low)
            stream.archive.ask(need, partial(self._answered, grant, told), lambda: True)

    def _is_known(self, grant: Grant, stream: Stream) -> bool:
        if grant.key in self._yes:
            self._yes.move_to_end(grant.key)
            return True
        return stream.log.newest(grant.key) is not None and self._remember(grant.key)

    def _remember(self, key: str) -> bool:
        self._no.pop(key, None)
        self._yes[key] = None
        if len(self._yes) > _MOST_YES:
            self._yes.popitem(last=False)
        return True

    def _asked_lately(self, key: str) -> tuple[float, bool | None] | None:
        found = self._no.get(key)
        return found if found is not None and self._now() - found[0] < _ASK_AGAIN_SECONDS else None

    def _answered(self, grant: Grant, told: Told, answer: Answer) -> None:
        found = any(grant.key in entry.keys for entry in answer.entries) if isinstance(answer, Page) else None
        # What came while the archive was asked is in the log.
        if found:
            self._remember(grant.key)
        elif self._is_known(grant, self._streams[grant.stream]):
            found = True
        else:
            self._no[grant.key] = self._now(), found
            self._no.move_to_end(grant.key)
            if len(self._no) > _MOST_NO:
                self._no.popitem(last=False)
        told(found)

    # Those who are none yet.

    def wait(self, grant: Grant, who: Hashable, call: Callable[[], None]) -> None:
        """Call once the holder of `grant` has become a party."""
        if grant.stream not in self._outside:
            self._looked[grant.stream] = self._streams[grant.stream].log.high
        self._outside.setdefault(grant.stream, {}).setdefault(grant.key, {})[who] = call
        asked = self._no.get(grant.key)
        if asked is not None and asked[1] is None:
            self._unsure[grant.key] = grant

    def forget(self, grant: Grant, who: Hashable) -> None:
        """It waits no more; harmless where it did not."""
        by_key = self._outside.get(grant.stream, {})
        calls = by_key.get(grant.key, {})
        calls.pop(who, None)
        if calls:
            return
        self._unsure.pop(grant.key, None)
        if by_key.pop(grant.key, None) is not None and not by_key:
            del self._outside[grant.stream]

    def look(self) -> bool:
        """Call those whose first event has come since the last look, and ask again where nobody has answered.

        A page of each stream at a time, so that events are not kept waiting; whether there is more to look at.
        """
        goes_on = False
        for name in list(self._outside):
            log = self._streams[name].log
            position = max(min(self._looked[name], log.high), log.low)
            page = log.page(position)
            if page is None:
                continue
            keys = self._outside[name].keys()
            found: set[str] = set()
            for entry in page.entries:
                if entry.sequence > position:
                    found.update(keys & set(entry.keys))
            self._looked[name] = page.high
            goes_on = goes_on or page.high < log.high
            for key in found:
                self._remember(key)
                self._call(name, key)
        for grant in [grant for key, grant in self._unsure.items() if self._asked_lately(key) is None]:
            self._no[grant.key] = self._now(), None  # until it answers, it is not asked at each look
            self._ask(grant, partial(self._settled, grant))
        return goes_on

    def _settled(self, grant: Grant, is_party: bool | None) -> None:
        if is_party is None:
            return  # and is asked again
        self._unsure.pop(grant.key, None)
        if is_party:
            self._call(grant.stream, grant.key)

    def _call(self, name: str, key: str) -> None:
        self._unsure.pop(key, None)
        by_key = self._outside.get(name, {})
        for call in by_key.pop(key, {}).values():
            call()
        if not by_key:
            self._outside.pop(name, None)
