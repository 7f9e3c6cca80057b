"""Subjects: which exact subjects the filters of one aggregate or deal select, so that they are read without a scan.

The set comes from the replay mirror's own index of subjects, never from a cache that somebody writes: it is complete
up to a sequence that is told with it, or it is not used (docs/adr/0038).
"""

from collections import OrderedDict
from dataclasses import dataclass

from services.chassis.direct import DirectGetFailed
from services.gateway.bus.place import Behind, Place
from services.gateway.core.log import Life

# Beyond so many subjects a filtered read of the mirror is cheaper than as many exact ones.
MOST_SUBJECTS = 32
_MOST_LOOKED_AT = 4 * MOST_SUBJECTS
_REMEMBERED = 4096
# The server's own bound on the subjects of one answer.
_TOO_MANY = "413"


@dataclass(frozen=True, slots=True)
class Found:
    """What the filters selected when it was looked up."""

    # Every event of these filters up to here has one of the subjects.
    upto: int
    # None where there are too many.
    subjects: tuple[str, ...] | None


class Subjects:
    """Looks subjects up in one mirror, and remembers the latest."""

    def __init__(self, mirror: Place) -> None:
        self._mirror = mirror
        self._life: Life | None = None
        # Filters -> what they selected; the least lately used goes first.
        self._found: OrderedDict[tuple[str, ...], Found] = OrderedDict()

    def known(self, life: Life, filters: tuple[str, ...], upto: int) -> Found | None:
        """What is remembered, if that is true of everything up to `upto`."""
        found = self._found.get(filters) if life is self._life else None
        return found if found is not None and (found.upto >= upto or found.subjects is None) else None

    async def find(self, life: Life, filters: tuple[str, ...], upto: int) -> Found:
        """What the filters select up to `upto`.

        Raises:
            Behind: the mirror has not got there, or is of another life.
        """
        known = self.known(life, filters, upto)
        if known is not None:
            return known
        before = await self._mirror.same(life)
        selected, answered = await self._select(filters)
        # Looked at again: one that was made anew meanwhile may not have had everything.
        after = await self._mirror.same(life)
        # Another copy than the one that tells the bounds may have answered, and lag. Who found nothing does not say
        # how far it has got: then no more is taken for true than what was asked, which lies well behind the end.
        end = min(before.last, after.last)
        known_upto = min(end, upto if answered is None else answered)
        if known_upto < upto:
            raise Behind(f"{self._mirror.name} has not got there yet")
        found = Found(known_upto, selected)
        self._keep(life, filters, found)
        return found

    async def _select(self, filters: tuple[str, ...]) -> tuple[tuple[str, ...] | None, int | None]:
        """The subjects, and up to where who answered had events; None where that is not told."""
        try:
            batch = await self._mirror.get({"multi_last": _unions(filters), "batch": _MOST_LOOKED_AT})
        except DirectGetFailed as error:
            if error.status == _TOO_MANY:
                return None, None
            raise
        chosen = tuple(one.subject for one in batch.messages if any(takes(name, one.subject) for name in filters))
        return (None if batch.more or len(chosen) > MOST_SUBJECTS else chosen), batch.upto

    def _keep(self, life: Life, filters: tuple[str, ...], found: Found) -> None:
        if life is not self._life:
            self._found.clear()
            self._life = life
        self._found[filters] = found
        self._found.move_to_end(filters)
        if len(self._found) > _REMEMBERED:
            self._found.popitem(last=False)


def is_exact(one: str) -> bool:
    """Whether a filter is one subject."""
    return "*" not in one and not one.endswith(">")


def selects_few(filters: tuple[str, ...]) -> bool:
    """Whether these may be the filters of one aggregate or deal: each begins or ends with what is fixed."""
    return all(_is_fixed(tokens[1]) or _is_fixed(tokens[-1]) for tokens in map(_tokens, filters))


def takes(one: str, subject: str) -> bool:
    """Whether the filter selects the subject."""
    wanted, given = _tokens(one), _tokens(subject)
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        given = given[: len(wanted)] if len(given) > len(wanted) else []
    return len(wanted) == len(given) and all(a in ("*", b) for a, b in zip(wanted, given, strict=True))


def _unions(filters: tuple[str, ...]) -> list[str]:
    """Fewer filters that select what these do and hardly more: each costs the server a walk over its subjects."""
    groups: dict[tuple[int, str, str], list[list[str]]] = {}
    for row in map(_tokens, filters):
        groups.setdefault((len(row), row[1], row[-1]), []).append(row)
    return [
        ".".join(column[0] if len(set(column)) == 1 else "*" for column in zip(*rows, strict=True))
        for rows in groups.values()
    ]


def _tokens(one: str) -> list[str]:
    return one.split(".")


def _is_fixed(token: str) -> bool:
    return token not in ("*", ">")
