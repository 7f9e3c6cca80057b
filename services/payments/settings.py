"""What payments reads of the environment, beside what every publisher does."""

from typing import Annotated

from pydantic import AfterValidator, Field

from services.chassis.settings import PublisherSettings
from services.payments.signature import keys_of


def _secret(text: str) -> str:
    keys_of(text)
    return text


class PaymentsSettings(PublisherSettings):
    """Settings of `python -m services.payments`."""

    payment_webhook_secret: Annotated[str, AfterValidator(_secret)] = Field(
        description="what the payment provider signs with: whsec_<base64>, or any text"
    )
