"""Publishers in this process, as their clients meet them: deals, orders, payments, in any company."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from services.chassis.launch import verifier_of
from services.chassis.publisher import build
from services.chassis.settings import PublisherSettings
from services.deals import app as deals
from services.deals.settings import DealsSettings
from services.orders import app as orders
from services.orders.settings import OrdersSettings
from services.payments import app as payments
from services.payments.settings import PaymentsSettings
from tests.harness.asgi import serving
from tests.harness.dealing import WEBHOOK_SECRET, Desk
from tests.harness.tokens import SECRET
from tests.harness.waiting import until

_KINDS: Mapping[str, tuple[Any, type[PublisherSettings], Mapping[str, Any]]] = {
    "deals": (deals.define, DealsSettings, {}),
    "orders": (orders.define, OrdersSettings, {}),
    "payments": (payments.define, PaymentsSettings, {"payment_webhook_secret": WEBHOOK_SECRET}),
}


@dataclass
class Publishers:
    """Services that are ready, and a client for them."""

    desk: Desk
    http: httpx.AsyncClient

    async def ask(self, ask: Any, status: int | None = None) -> Any:
        """Send one request; its JSON, once its status is as wanted (201 of a command and 200 of a query, else)."""
        answer = await ask.by(self.http)
        wanted = status or (200 if ask.method == "GET" else 201)
        assert answer.status_code == wanted, f"{answer.status_code}: {answer.text}"
        return answer.json()

    async def counted(self, service: str, name: str) -> float:
        """The sum of one metric's samples, over its labels."""
        lines = (await self.http.get(f"{self.desk.urls[service]}/metrics")).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].partition(" ")[0] == name)


@contextlib.asynccontextmanager
async def publishing(
    nats_url: str, *names: str, on_fatal: Callable[[str], None] = print, **settings: Any
) -> AsyncIterator[Publishers]:
    """The services of these names over the NATS at `nats_url`, ready."""
    async with contextlib.AsyncExitStack() as stack:
        urls = {}
        for name in names:
            define, kind, own = _KINDS[name]
            found = kind(
                **{
                    "nats_url": nats_url,
                    "jwt_hs256_secret": SECRET,
                    "market_max_bytes": 64 * 1024**2,
                    **own,
                    **settings,
                }
            )
            app = build(name, "", define, found, verifier_of(found), on_fatal)
            urls[name] = await stack.enter_async_context(serving(app))
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
        for url in urls.values():

            async def is_ready(url: str = url) -> bool:
                return (await http.get(f"{url}/readyz")).status_code == 200

            await until(is_ready, what=f"{url} is ready")
        yield Publishers(Desk(urls), http)
