"""`python -m services.deals`: intents, quotes and negotiations over HTTP, until SIGTERM."""

from collections.abc import Sequence

from services.chassis.publisher import run
from services.deals.app import DESCRIPTION, SERVICE, define
from services.deals.settings import DealsSettings


def main(given: Sequence[str] | None = None) -> None:
    """Run the service; one `error:` line and exit code 2 where it cannot."""
    run(SERVICE, DealsSettings, define, description=DESCRIPTION, given=given)


if __name__ == "__main__":
    main()
