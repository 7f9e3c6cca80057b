"""deploy/nats, run as it is: a hub of three servers and a region, over TLS, with accounts."""

import os
import re
import subprocess
from pathlib import Path

import nats.errors
import pytest

from contracts.topology import streams
from services.chassis.jetstream import JetStreamError, StreamMissing, ensure, request, state
from services.local.embedded import find_binary
from services.relay.regions import RegionReconciler
from tests.harness.certificates import make_certificates
from tests.harness.deployed import FOLDER, HUBS, deployment
from tests.harness.streams import looking_at
from tests.harness.waiting import until

SPECS = streams(market_max_bytes=64 * 1024**2, replicas=3)
IN_REGION = streams(market_max_bytes=64 * 1024**2)


def variables(example: Path) -> dict[str, str]:
    return dict(re.findall(r"^(NATS_\w+)=(.*)$", example.read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", [*HUBS, "region"])
def test_the_configuration_is_valid_with_the_variables_of_its_example(name: str, tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    given = variables(FOLDER / ("region.env.example" if name == "region" else "hub.env.example"))
    files = {"CERT": made.certificate, "KEY": made.key, "CA": made.authority}
    given |= {f"NATS_{kind}_FILE": f'"{path}"' for kind, path in files.items()} | {"NATS_STORE": f'"{tmp_path}"'}
    checked = subprocess.run(
        [find_binary(), "-t", "-c", str(FOLDER / f"{name}.conf")],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.timeout(180)
async def test_a_region_follows_a_hub_of_three_over_tls_and_cannot_change_its_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with deployment(tmp_path) as deployed:
        monkeypatch.setenv("SSL_CERT_FILE", str(deployed.certificates.authority))
        for server in deployed.hub.values():
            await server.healthy()
        region = deployed.region("eu")
        region.start()
        try:
            await region.healthy()
            async with looking_at(deployed.hub["hub-1"].url) as hub, looking_at(region.url) as eu:
                await ensure(hub, SPECS)
                assert (await state(hub, "MARKET")).replicas == 3
                relay = RegionReconciler(eu, IN_REGION, region="eu", hub_domain="hub")

                async def is_made() -> bool:
                    return all(report.is_as_declared for report in await relay.round())

                await until(is_made, seconds=30, what="the region has its mirrors")
                answer = await eu.request("market.i.b.n.order.o", b"{}", timeout=5)
                assert b'"seq":1' in answer.data

                async def has_it() -> bool:
                    return (await state(eu, "MARKET")).messages == 1

                await until(has_it, seconds=30, what="the event is in the mirror")
                with pytest.raises((nats.errors.Error, JetStreamError)):
                    await request(eu, "STREAM.DELETE.MARKET", api="$JS.hub.API", seconds=1)
                assert (await state(hub, "MARKET")).messages == 1
                with pytest.raises(StreamMissing):
                    await state(eu, "MARKET_REPLAY")
        finally:
            region.kill()


@pytest.mark.timeout(180)
async def test_a_service_goes_on_at_another_server_when_its_own_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with deployment(tmp_path) as deployed:
        monkeypatch.setenv("SSL_CERT_FILE", str(deployed.certificates.authority))
        for server in deployed.hub.values():
            await server.healthy()
        first = deployed.hub["hub-1"]
        async with looking_at(first.url) as client:
            first.kill()

            def is_elsewhere() -> bool:
                now = client.connected_url
                return client.is_connected and now is not None and now.port != first.port

            await until(is_elsewhere, seconds=30, what="the client is connected to another server")
            await client.publish("anything", b"")
            await client.flush(5)
