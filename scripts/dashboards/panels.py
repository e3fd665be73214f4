"""How panels look: one description of a panel, one way to draw it.

Units are Grafana's ids, or `suffix:…` where Grafana has none of that name.
"""

from dataclasses import dataclass
from itertools import count

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import DataSourceRef, LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, VariableRefresh

HEIGHT = 8
"""Rows of Grafana's grid that a panel takes."""

STEPS_WINDOW = "15m"
"""Window of a rate of what is counted once a step: it is to hold several."""

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
"""The Prometheus that is chosen at the top of the dashboard."""

NOTE = "DO NOT EDIT: written by `make generate` from scripts/dashboards."


@dataclass(frozen=True)
class Query:
    """A query and the name of what it returns."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """What a panel shows, and what a reader has to know to read it."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    span: int = 8
    """Columns of 24."""
    is_number: bool = False
    """The newest value in large type instead of a curve."""
    minimum: float | None = None
    maximum: float | None = None


def drawn(panel: Panel) -> timeseries.Panel | stat.Panel:
    """Return the panel for Grafana."""
    made = _number() if panel.is_number else _curves()
    made = (
        made.title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(SOURCE)
        .span(panel.span)
        .height(HEIGHT // 2 if panel.is_number else HEIGHT)
    )
    if panel.minimum is not None:
        made.min(panel.minimum)
    if panel.maximum is not None:
        made.max(panel.maximum)
    for index, query in enumerate(panel.queries):
        made.with_target(_target(query, chr(ord("A") + index), instant=panel.is_number))
    return made


def _number() -> stat.Panel:
    return stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))


def _curves() -> timeseries.Panel:
    legend = (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    return timeseries.Panel().legend(legend).line_width(1).fill_opacity(5)


def _target(query: Query, ref: str, *, instant: bool) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(ref)
    return target.instant() if instant else target.range()


def board(uid: str, title: str, description: str) -> dashboard.Dashboard:
    """Return a dashboard without panels, for any Prometheus that Grafana knows."""
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(f"{description} {NOTE}")
        .tags(["rlhf"])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
    )


def choice(name: str, label: str, query: str, *, several: bool = False) -> dashboard.QueryVariable:
    """Return a choice at the top of a dashboard, among the values that `query` finds."""
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )
    return variable.multi(True).include_all(True).all_value(".*") if several else variable


def mark(name: str, expr: str, text: str, *, colour: str) -> dashboard.AnnotationQuery:
    """Return vertical lines in all curves, where a query returns something."""
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(True)
        .target(prometheus.Dataquery().expr(expr).ref_id("Anno").interval("30s"))
        .title_format(name)
        .text_format(text)
        .icon_color(colour)
    )


def add_rows(made: dashboard.Dashboard, rows: dict[str, tuple[Panel, ...]]) -> dashboard.Dashboard:
    """Add rows of panels, by the rows' titles."""
    ids = count(1)
    for title, panels in rows.items():
        made.with_row(dashboard.Row(title).id(next(ids)))
        for panel in panels:
            made.with_panel(drawn(panel).id(next(ids)))
    return made
