"""`python -m services.ingest`: events over HTTP into the streams, until SIGTERM."""

from collections.abc import Sequence

from services.chassis.launch import launch
from services.ingest.app import build
from services.ingest.settings import IngestSettings

# Time for what is under way: a publish with all its tries takes six and a half seconds.
_GRACEFUL_SECONDS = 8


def main(given: Sequence[str] | None = None) -> None:
    """Run the service; one `error:` line and exit code 2 where it cannot."""
    launch(
        "ingest",
        IngestSettings,
        build,
        description="Stores the events that publishers send over HTTP, once they fit their contracts.",
        on_signal=lambda app: setattr(app.state, "draining", True),
        graceful_seconds=_GRACEFUL_SECONDS,
        given=given,
    )


if __name__ == "__main__":
    main()
