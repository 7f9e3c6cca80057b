"""`python -m services.orders`: orders, until SIGTERM."""

from collections.abc import Sequence

from services.chassis.publisher import run
from services.orders.app import DESCRIPTION, NAME, define
from services.orders.settings import OrdersSettings


def main(given: Sequence[str] | None = None) -> None:
    """Run the service; one `error:` line and exit code 2 where it cannot."""
    run(NAME, OrdersSettings, define, description=DESCRIPTION, given=given)


if __name__ == "__main__":
    main()
