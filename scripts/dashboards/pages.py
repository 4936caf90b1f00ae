"""The parts of a dashboard, and their conversion into Grafana's JSON.

In queries, `SELECTED` stands for the jobs and instances that the reader chose.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

TAG = "session-authority"
_SOURCE = DataSourceRef("prometheus", "${datasource}")
_SELECTED = 'job=~"$job", instance=~"$instance"'
_WIDE, _NARROW = 8, 4  # of 24 columns
_HIGH, _LOW = 8, 4
_FILL_PERCENT = 10
_REF_IDS = "ABCDEFGH"


@dataclass(frozen=True)
class Graph:
    """A graph with lines over time."""

    title: str
    description: str
    unit: str
    queries: dict[str, str]
    """Maps the legend of each line to the query of the line."""
    stacked: bool = False


@dataclass(frozen=True)
class Number:
    """A panel with one number, as it is now."""

    title: str
    description: str
    unit: str
    query: str
    red_from: float | None = None
    red_below: float | None = None


@dataclass(frozen=True)
class Section:
    """A row of a dashboard."""

    title: str
    panels: tuple[Graph | Number, ...]


@dataclass(frozen=True)
class Page:
    """A dashboard."""

    name: str
    title: str
    description: str
    series: str
    """The reader can choose among the jobs and instances that have this series."""
    sections: tuple[Section, ...]

    def as_json(self) -> str:
        """The dashboard as Grafana reads it."""
        built = (
            dashboard.Dashboard(self.title)
            .uid(f"{TAG}-{self.name}")
            .description(self.description)
            .tags([TAG])
            .time("now-3h", "now")
            .refresh("30s")
            .timezone("browser")
            .link(_link_to_the_others())
        )
        for variable in self._variables():
            built = built.with_variable(variable)
        for section in self.sections:
            built = built.with_row(dashboard.Row(section.title))
            for panel in section.panels:
                built = built.with_panel(_panel(panel))
        found = built.build()
        numbers = itertools.count(1)
        for placed in found.panels or ():
            placed.id_val = next(numbers)
        return JSONEncoder(sort_keys=True, indent=2).encode(found) + "\n"

    def _variables(self) -> Iterator[dashboard.DatasourceVariable | dashboard.QueryVariable]:
        yield dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        of_job = f'{self.series}{{job=~"$job"}}'
        for name, series in (("job", self.series), ("instance", of_job)):
            yield (
                dashboard.QueryVariable(name)
                .label(name)
                .query(f"label_values({series}, {name})")
                .datasource(_SOURCE)
                .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
                .multi(True)
                .include_all(True)
                .all_value(".*")
            )


def _link_to_the_others() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Session Authority")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .keep_time(True)
        .icon("external link")
        .as_dropdown(True)
    )


def _panel(panel: Graph | Number) -> stat.Panel | timeseries.Panel:
    return _number(panel) if isinstance(panel, Number) else _graph(panel)


def _number(number: Number) -> stat.Panel:
    return (
        stat.Panel()
        .title(number.title)
        .description(number.description)
        .datasource(_SOURCE)
        .unit(number.unit)
        .span(_NARROW)
        .height(_LOW)
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .thresholds(_thresholds(number))
        .with_target(_target("A", number.query, "").instant())
    )


def _thresholds(number: Number) -> dashboard.ThresholdsConfig:
    if number.red_below is not None:
        steps = [Threshold(None, "red"), Threshold(number.red_below, "green")]
    elif number.red_from is not None:
        steps = [Threshold(None, "green"), Threshold(number.red_from, "red")]
    else:
        steps = [Threshold(None, "text")]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _graph(graph: Graph) -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST)
    panel = (
        timeseries.Panel()
        .title(graph.title)
        .description(graph.description)
        .datasource(_SOURCE)
        .unit(graph.unit)
        .min(0)
        .span(_WIDE)
        .height(_HIGH)
        .fill_opacity(_FILL_PERCENT)
        .legend(legend.placement(LegendPlacement.BOTTOM).show_legend(True))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if graph.stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    for ref_id, (shown, query) in zip(_REF_IDS, graph.queries.items(), strict=False):
        panel = panel.with_target(_target(ref_id, query, shown).range())
    return panel


def _target(ref_id: str, query: str, shown: str) -> prometheus.Dataquery:
    expression = query.replace("SELECTED", _SELECTED)
    return prometheus.Dataquery().ref_id(ref_id).expr(expression).legend_format(shown)
