"""Parties: who takes part in a channel that it may subscribe to and sees only narrowed (PROTOCOL §2).

A stranger's subscription is legal and empty; so that nobody can probe who is where, it sees no members and nobody
sees it. A party is who can see at least one stored event of the channel. A yes is remembered; a no is asked again,
at most once in a while, and becomes a yes with the first event that the log brings.
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

Told = Callable[[bool], None]


class Parties:
    """Judges, for all connections of a replica."""

    def __init__(self, streams: Mapping[str, Stream], now: Callable[[], float]) -> None:
        self._streams = streams
        self._now = now
        # By a grant's key, the least lately used first: who is a party, and when the archive said that one is none.
        self._yes: OrderedDict[str, None] = OrderedDict()
        self._no: OrderedDict[str, float] = OrderedDict()
        # Who waits to become a party, by stream and key; and up to where the log has been looked through for them.
        self._outside: dict[str, dict[str, dict[Hashable, Callable[[], None]]]] = {}
        self._looked: dict[str, int] = {}
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
        elif stream.log.low == 0 or self._was_asked_lately(grant.key):
            told(False)
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

    def _was_asked_lately(self, key: str) -> bool:
        return self._now() - self._no.get(key, float("-inf")) < _ASK_AGAIN_SECONDS

    def _answered(self, grant: Grant, told: Told, answer: Answer) -> None:
        found = isinstance(answer, Page) and any(grant.key in entry.keys for entry in answer.entries)
        # What came while the archive was asked is in the log.
        if found:
            self._remember(grant.key)
        elif not (found := self._is_known(grant, self._streams[grant.stream])):
            self._no[grant.key] = self._now()
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

    def forget(self, grant: Grant, who: Hashable) -> None:
        """It waits no more; harmless where it did not."""
        by_key = self._outside.get(grant.stream, {})
        calls = by_key.get(grant.key, {})
        calls.pop(who, None)
        if not calls and by_key.pop(grant.key, None) is not None and not by_key:
            del self._outside[grant.stream]

    def look(self) -> None:
        """Call those whose first event has come since the last look."""
        for name in list(self._outside):
            log = self._streams[name].log
            position = max(min(self._looked[name], log.high), log.low)
            found: set[str] = set()
            while (page := log.page(position)) is not None:
                keys = self._outside[name].keys()
                for entry in page.entries:
                    if entry.sequence > position:
                        found.update(keys & set(entry.keys))
                position = page.high
            self._looked[name] = position
            for key in found:
                self._remember(key)
                for call in self._outside.get(name, {}).pop(key, {}).values():
                    call()
            if name in self._outside and not self._outside[name]:
                del self._outside[name]
