"""`python -m services.payments`: what orders cost, asked for and settled, until SIGTERM."""

from collections.abc import Sequence

from services.chassis.publisher import run
from services.payments.app import DESCRIPTION, SERVICE, define
from services.payments.settings import PaymentsSettings


def main(given: Sequence[str] | None = None) -> None:
    """Run the service; one `error:` line and exit code 2 where it cannot."""
    run(SERVICE, PaymentsSettings, define, description=DESCRIPTION, given=given)


if __name__ == "__main__":
    main()
