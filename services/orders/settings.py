"""What orders reads of the environment: what every publisher does."""

from services.chassis.settings import PublisherSettings


class OrdersSettings(PublisherSettings):
    """Settings of `python -m services.orders`."""
