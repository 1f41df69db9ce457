"""Renders the reference of the Prometheus metrics from the objects in `service.telemetry.metrics`."""

from prometheus_client.metrics import Counter, Histogram, MetricWrapperBase

from service.telemetry import metrics
from tools.docs.model_tables import cell, sentence


def render() -> str:
    """Returns one table with name, kind, labels, meaning and histogram buckets of every metric."""
    header = ["| metric | kind | labels | meaning |", "| --- | --- | --- | --- |"]
    rows = [_row(metric) for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    return "\n".join(header + rows)


def _row(metric: MetricWrapperBase) -> str:
    described = next(iter(metric.describe()))
    name = f"{described.name}_total" if isinstance(metric, Counter) else described.name
    labels = ", ".join(f"`{label}`" for label in metric._labelnames) or "none"
    text = sentence(described.documentation)
    if isinstance(metric, Histogram):
        text += f" Buckets: {', '.join(f'{bound:g}' for bound in metric._upper_bounds[:-1])}."
    return f"| `{name}` | {described.type} | {labels} | {cell(text)} |"
