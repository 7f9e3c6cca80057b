"""What every event's `data` is made of: the model they all share and the plain kinds of text in it."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from contracts.subjects import ID_PATTERN

Id = Annotated[str, StringConstraints(pattern=f"^{ID_PATTERN}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
# An id that somebody else made, as a payment provider's `webhook-id`.
ForeignId = Annotated[str, StringConstraints(min_length=1, max_length=255)]
# Who takes part in a deal.
Party = Literal["buyer", "node"]
# Who may end something: a party, or the market itself (an expiry, a reaction to another event).
Actor = Literal["buyer", "node", "system"]


class Data(BaseModel):
    # Unknown fields are let through: an optional field added later must not break today's readers.
    model_config = ConfigDict(frozen=True)


class DealData(Data):
    """The keys of every event that has a node; an intent alone has none."""

    intent_id: Id
    buyer_id: Id
    node_id: Id
