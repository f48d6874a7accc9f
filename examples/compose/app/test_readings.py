"""The app's tests: SWITCH_API_URL is the proxy, with the fakes behind it."""

import os
import unittest

from readings import read_values, send_reading

BASE_URL = os.environ["SWITCH_API_URL"]


class Readings(unittest.TestCase):
    """The app's readings."""

    def test_what_is_sent_is_read_again(self) -> None:
        """The API stores it."""
        send_reading(BASE_URL, register="7", at="2025-11-03T16:00:00Z", until="2025-11-03T17:00:00Z", value=42.5)

        values = read_values(BASE_URL, register="7", start="2025-11-03T16:00:00Z", end="2025-11-03T17:00:00Z")

        self.assertEqual(values, [42.5])

    def test_more_than_the_api_takes_at_once_arrives_all_the_same(self) -> None:
        """The API accepts five posts a second; the app waits for Retry-After."""
        for hour in range(8):
            at, until = f"2025-11-04T{hour:02}:00:00Z", f"2025-11-04T{hour + 1:02}:00:00Z"
            send_reading(BASE_URL, register="8", at=at, until=until, value=float(hour))

        values = read_values(BASE_URL, register="8", start="2025-11-04T00:00:00Z", end="2025-11-04T08:00:00Z")

        self.assertEqual(values, [float(hour) for hour in range(8)])


if __name__ == "__main__":
    unittest.main()
