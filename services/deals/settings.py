"""What deals reads of the environment: nothing but what every publisher does."""

from services.chassis.settings import PublisherSettings


class DealsSettings(PublisherSettings):
    """Settings of `python -m services.deals`."""
