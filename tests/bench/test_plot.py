from __future__ import annotations

from xml.etree import ElementTree as ET

from plot import render_svg

from tests.bench.made_results import results, sample

SVG = "{http://www.w3.org/2000/svg}"


def bars(svg: str) -> dict[str, float]:
    """Return the width of each bar by its title."""
    found = {}
    for rectangle in ET.fromstring(svg).iter(f"{SVG}rect"):
        title = rectangle.findtext(f"{SVG}title")
        if title is not None:
            found[title] = float(rectangle.attrib["width"])
    return found


def drawn(**costs: float) -> dict[str, float]:
    return bars(
        render_svg(results(*(sample("small-plain", name, 0, cpu_us_per_request=c) for name, c in costs.items())))
    )


def test_a_bar_is_as_long_as_the_ratio() -> None:
    found = drawn(envoy=50.0, nginx=25.0, tutorial=100.0)
    assert found["tutorial: 2.00 × Envoy"] == 4 * found["nginx: 0.50 × Envoy"]


def test_a_bar_beyond_the_scale_is_cut_and_says_its_value() -> None:
    samples = [sample("small-plain", "envoy", 0, cpu_us_per_request=1.0)]
    long, longer = (
        render_svg(results(*samples, sample("small-plain", "tutorial", 0, cpu_us_per_request=value)))
        for value in (50.0, 95.0)
    )
    assert bars(long)["tutorial: 50.00 × Envoy"] == bars(longer)["tutorial: 95.00 × Envoy"]
    assert "95 × →" in longer


def test_bytes_per_cpu_second_are_drawn_as_a_cost() -> None:
    """Twice the bytes are half the cost, so that shorter is better throughout."""
    samples = [
        sample("download-100m-tls", "envoy", 0, mib_per_cpu_second=500.0),
        sample("download-100m-tls", "nginx", 0, mib_per_cpu_second=1000.0),
    ]
    assert list(bars(render_svg(results(*samples)))) == ["nginx: 0.50 × Envoy"]


def test_what_was_not_measured_is_not_drawn() -> None:
    assert list(drawn(envoy=50.0, nginx=25.0)) == ["nginx: 0.50 × Envoy"]


def test_the_plot_follows_a_dark_theme() -> None:
    assert "prefers-color-scheme: dark" in render_svg(results())
