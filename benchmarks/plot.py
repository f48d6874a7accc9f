"""The plot of a run: costs relative to Envoy as bars, in an SVG for light and dark themes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from goals import REFERENCE
from summary import ratio_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from results import Results

_TITLE = "Relative to Envoy, shorter is better"
_WIDTH = 760
_LABEL_WIDTH = 250
_BAR = 13
_GAP = 16
_HEADER = 58
# Bars end here; a longer one is cut and shows its value.
_SCALE_MAX = 3.0
_DRAWN = ("switch-proxy", "nginx", "tutorial")
_STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #1f2328; }
    .title { font-weight: 600; font-size: 15px; }
    .value { font-size: 11px; fill: #59636e; }
    .reference { stroke: #59636e; stroke-dasharray: 3 3; }
    .switch-proxy { fill: #1a7f37; }
    .nginx { fill: #afb8c1; }
    .tutorial { fill: #d4a72c; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .value { fill: #9198a1; }
      .reference { stroke: #9198a1; }
      .switch-proxy { fill: #3fb950; }
      .nginx { fill: #57606a; }
      .tutorial { fill: #bb8009; }
    }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A cost to draw. If the metric is a yield (bytes per CPU second), the cost is its inverse."""

    label: str
    workload: str
    metric: str
    is_yield: bool = False


COSTS = (
    Cost(label="CPU per small request, plain", workload="small-plain", metric="cpu_us_per_request"),
    Cost(label="CPU per small request, TLS", workload="small-tls", metric="cpu_us_per_request"),
    Cost(label="p99 at half of Envoy's peak, TLS", workload="latency-tls", metric="p99_ms"),
    Cost(label="CPU per MiB, download, TLS", workload="download-100m-tls", metric="mib_per_cpu_second", is_yield=True),
    Cost(label="CPU per MiB, upload, TLS", workload="upload-100m-tls", metric="mib_per_cpu_second", is_yield=True),
    Cost(label="CPU per event, 1,000 streams, TLS", workload="streams-tls", metric="cpu_us_per_event"),
    Cost(label="memory, idle", workload="start-memory", metric="resident_idle_mib"),
    Cost(label="memory, 1,000 idle connections", workload="start-memory", metric="resident_connections_mib"),
)


def render_svg(results: Results) -> str:
    """Return the plot, without costs and systems that were not measured."""
    rows = [(cost.label, _ratios(results, cost)) for cost in COSTS]
    rows = [(label, ratios) for label, ratios in rows if ratios]
    systems = [name for name in _DRAWN if any(name in dict(ratios) for _, ratios in rows)]
    height = _HEADER + sum(len(ratios) * _BAR + _GAP for _, ratios in rows)
    reference_x = _x(1.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{_TITLE}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="12" y="22">{_TITLE}</text>',
        *_legend(systems),
    ]
    parts.append(
        f'<line class="reference" x1="{reference_x:.1f}" x2="{reference_x:.1f}" y1="{_HEADER - 8}" y2="{height - 8}"/>'
    )
    parts.append(f'<text class="value" x="{reference_x:.1f}" y="{_HEADER - 12}" text-anchor="middle">Envoy = 1</text>')
    y = _HEADER
    for label, ratios in rows:
        middle = y + len(ratios) * _BAR / 2 + 4
        parts.append(f'<text x="{_LABEL_WIDTH - 12}" y="{middle:g}" text-anchor="end">{escape(label)}</text>')
        for system, ratio in ratios:
            end = _x(min(ratio, _SCALE_MAX))
            parts.append(
                f'<rect class="{system}" x="{_LABEL_WIDTH}" y="{y}" width="{end - _LABEL_WIDTH:.1f}" '
                f'height="{_BAR - 2}" rx="2"><title>{system}: {ratio:.2f} × Envoy</title></rect>'
            )
            cut = " →" if ratio > _SCALE_MAX else ""
            parts.append(f'<text class="value" x="{end + 5:.1f}" y="{y + _BAR - 3}">{_figure(ratio)} ×{cut}</text>')
            y += _BAR
        y += _GAP
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ratios(results: Results, cost: Cost) -> list[tuple[str, float]]:
    found = []
    for system in _DRAWN:
        ratio = ratio_of(
            results.samples, workload=cost.workload, system=system, reference=REFERENCE, metric=cost.metric
        )
        if ratio is not None:
            found.append((system, 1 / ratio.median if cost.is_yield else ratio.median))
    return found


def _legend(systems: Sequence[str]) -> list[str]:
    parts, x = [], _WIDTH - 12 - 110 * len(systems)
    for system in systems:
        parts.append(f'<rect class="{system}" x="{x}" y="12" width="11" height="11" rx="2"/>')
        parts.append(f'<text x="{x + 16}" y="22">{system}</text>')
        x += 110
    return parts


def _x(ratio: float) -> float:
    return _LABEL_WIDTH + (_WIDTH - _LABEL_WIDTH - 60) * ratio / _SCALE_MAX


def _figure(ratio: float) -> str:
    return f"{ratio:.3g}" if ratio > _SCALE_MAX else f"{ratio:.2f}"
