"""The bodies of the deals' commands, as they are judged and as `/openapi.json` shows them.

Unknown members are refused: a command that was not understood whole must not be carried out in part.
"""

from pydantic import BaseModel, ConfigDict, Field

from contracts.events.data import Id, Text
from contracts.events.moment import Moment
from contracts.events.money import Money

# Far enough away that an example works for who pastes it.
_EXPIRES = ["2030-01-01T00:00:00Z"]
_PRICE = [{"amount": "1100.00", "currency": "EUR"}]
# Of a quantity: what every reader's JSON numbers hold exactly, and more than anybody trades.
MOST = 10**12


class Body(BaseModel):
    """What all have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CreateIntent(Body):
    """What a buyer wants."""

    title: Text = Field(examples=["200 hours of GPU time"])
    quantity: int = Field(default=1, ge=1, le=MOST, strict=True, examples=[200])
    budget: Money | None = Field(default=None, examples=[{"amount": "1500.00", "currency": "EUR"}])
    expires_at: Moment | None = Field(
        default=None,
        examples=_EXPIRES,
        description="After this moment the intent takes no new quotes and negotiations; without it, until cancelled.",
    )


class CancelIntent(Body):
    """Why the intent is cancelled."""

    reason: Text | None = Field(default=None, examples=["found elsewhere"])


class GiveQuote(Body):
    """A node's offer to fulfil an intent; its currency is that of every offer to come."""

    price: Money = Field(examples=[{"amount": "1250.00", "currency": "EUR"}])
    valid_until: Moment | None = Field(
        default=None,
        examples=_EXPIRES,
        description="After this moment nobody can start a negotiation on it; without it, until withdrawn.",
    )


class WithdrawQuote(Body):
    """Why the quote is withdrawn."""

    reason: Text | None = Field(default=None, examples=["sold out"])


class MakeOffer(Body):
    """One side's price for all of it."""

    price: Money = Field(examples=_PRICE)
    expires_at: Moment | None = Field(
        default=None,
        examples=_EXPIRES,
        description="The other side can accept before this moment; without it, for seven days.",
    )


class StartNegotiation(MakeOffer):
    """The opening offer on a quote, by the buyer or by the node that quoted."""

    quote_id: Id = Field(examples=["quote_91c0"])
    quantity: int | None = Field(
        default=None, ge=1, le=MOST, strict=True, examples=[200], description="Without it, as the intent says."
    )


class AcceptOffer(Body):
    """Nothing has to be said: what is accepted is the standing offer, which only its maker's turn could change."""


class RejectNegotiation(Body):
    """Why the negotiation is left."""

    reason: Text | None = Field(default=None, examples=["too dear for us"])
