"""An app that sends readings to the Switch API, without any token."""

import json
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen


def send_reading(base_url: str, *, register: str, at: str, until: str, value: float) -> None:
    """Send a reading; retry if the API or the proxy says when. Raises HTTPError, RuntimeError."""
    reading = {"timestamp": at, "periodTo": until, "value": value}
    body = {"meters": [{"id": "1", "registers": [{"id": register, "values": [reading]}]}]}
    request = Request(
        f"{base_url}/api/readings", data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    for _ in range(5):
        try:
            with urlopen(request, timeout=10):
                return
        except HTTPError as error:
            with error:
                if error.code not in {429, 503}:
                    raise
                time.sleep(float(error.headers.get("Retry-After", "1")))
    raise RuntimeError("the API did not accept the reading")


def read_values(base_url: str, *, register: str, start: str, end: str) -> list[float]:
    """Return the values of a register in a period. Raises HTTPError."""
    query = f"organizationId=1&registerId={register}&start={start}&end={end}&resolution=3600"
    with urlopen(f"{base_url}/api/readings?{query}", timeout=10) as response:
        [found] = json.load(response)
    return [reading["value"] for reading in found["readings"]]
