"""`python -m services.plans`: plans, until SIGTERM."""

import asyncio
from collections.abc import Sequence

from services.chassis.launch import Errand, launch
from services.plans.app import DESCRIPTION, NAME, build, dead_letters
from services.plans.settings import PlansSettings

# Time for what is under way: executors end, and their turns are given back.
_GRACEFUL_SECONDS = 8


def main(given: Sequence[str] | None = None) -> None:
    """Run the service; one `error:` line and exit code 2 where it cannot."""
    launch(
        NAME,
        PlansSettings,
        build,
        description=DESCRIPTION,
        on_signal=lambda app: app.state.leave(),
        graceful_seconds=_GRACEFUL_SECONDS,
        errand=Errand(
            "--dead-letters",
            ("list",),
            "list the turns that were given up on; their plans have failed, and are begun anew by their owners",
            lambda settings, _: asyncio.run(dead_letters(settings)),
        ),
        given=given,
    )


if __name__ == "__main__":
    main()
