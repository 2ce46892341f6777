"""The tables and the plot of a comparison of losses."""

import dataclasses
import pathlib
import types
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments._lib.losses import LOSSES
from experiments._studies.search_learning_rate import best_rate
from experiments._studies.tables import flat
from experiments._studies.tables import mean_and_spread
from experiments._studies.tables import with_seeds
from experiments._studies.tables import write_csv

_METRICS = {
    "R@1": ("float", "recall@1"),
    "MAP@R": ("float", "map@r"),
    "NMI": ("clustering", "nmi"),
}
_COLORS = {"class weights": "tab:blue", "pairs": "tab:orange"}


@dataclasses.dataclass(frozen=True)
class ComparedLoss:
    """The learning rates tried for a loss, and its runs with the best of them.

    Args:
        name: a key of `LOSSES`.
        searched: {learning rate: R@1 on the validation classes}.
        runs: {seed: what `train_and_measure` returned}, with the best of these rates;
            one at least.
        failed: {(learning rate, seed or None for the validation classes): why that run
            has no figures}; a rate that failed counts as a recall of 0.
    """

    name: str
    searched: Mapping[float, float]
    runs: Mapping[int, Mapping]
    failed: Mapping[tuple[float, int | None], str] = dataclasses.field(
        default_factory=dict
    )

    @property
    def compares(self) -> str:
        """What the loss compares an image with: "class weights", or in "pairs"."""
        return "pairs" if LOSSES[self.name].is_pair_loss else "class weights"

    @property
    def learning_rate(self) -> float:
        """The rate with the highest R@1 on the validation classes."""
        return best_rate(self.searched)

    def percent(self, kind: str, metric: str) -> np.ndarray:
        """A metric of each run, in percent."""
        return np.array(
            [100 * run["metrics"][kind][metric] for run in self.runs.values()]
        )


def write_comparison_report(
    folder: pathlib.Path,
    compared: Sequence[ComparedLoss],
    left_out: Mapping[str, str] = types.MappingProxyType({}),
) -> str:
    """Writes `table.md`, `results.csv`, `search.csv` and `comparison.png`.

    Args:
        folder: the folder of the results.
        compared: the losses, one at least.
        left_out: {loss: why it has no figures}.

    Returns:
        Two tables, in Markdown, the losses by R@1: the figures, mean ± standard
        deviation over seeds (of the sample, so with n - 1; none for a single seed);
        and the rates tried. Where seeds failed, the row says how many did not. Below
        them is a line for each run that failed and each loss that was left out.
    """
    compared = sorted(
        compared, key=lambda loss: -loss.percent("float", "recall@1").mean()
    )
    metrics = {
        column: key
        for column, key in _METRICS.items()
        if all(key[0] in run["metrics"] for run in compared[0].runs.values())
    }
    tables = f"{_figures(compared, metrics)}\n\n{_rates(compared)}"
    for loss in compared:
        for (rate, seed), why in loss.failed.items():
            run = "the validation run" if seed is None else f"seed {seed}"
            tables += f"\n\n{loss.name}: {run} at {rate:g} failed: {why}"
    for name, why in left_out.items():
        tables += f"\n\n{name} is left out: {why}"
    (folder / "table.md").write_text(tables + "\n", encoding="utf-8")
    write_csv(
        folder / "results.csv",
        [
            {"loss": loss.name, "learning rate": loss.learning_rate, "seed": seed}
            | flat({name: run[name] for name in run if name != "metrics"})
            | flat(run["metrics"])
            for loss in compared
            for seed, run in loss.runs.items()
        ]
        + [
            {"loss": loss.name, "learning rate": rate, "seed": seed, "failed": why}
            for loss in compared
            for (rate, seed), why in loss.failed.items()
            if seed is not None
        ],
    )
    write_csv(
        folder / "search.csv",
        [
            {"loss": loss.name, "learning rate": rate, "validation recall@1": recall}
            | ({"failed": why} if (why := loss.failed.get((rate, None))) else {})
            for loss in compared
            for rate, recall in loss.searched.items()
        ],
    )
    _plot(compared, metrics).savefig(folder / "comparison.png", dpi=100)
    return tables


def _figures(compared, metrics):
    columns = ("loss", "compares with", "learning rate", *metrics, "seconds an epoch")
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for loss in compared:
        seconds = [run["seconds_an_epoch"] for run in loss.runs.values()]
        seeds = len(loss.runs) + sum(seed is not None for _, seed in loss.failed)
        cells = (
            with_seeds(loss.name, len(loss.runs), seeds),
            *(loss.compares, f"{loss.learning_rate:g}"),
            *(mean_and_spread(loss.percent(*key)) for key in metrics.values()),
            mean_and_spread(seconds),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _rates(compared):
    lines = ["| loss | learning rate: R@1 on the validation classes |", "| --- | --- |"]
    for loss in compared:
        tried = []
        for rate, recall in loss.searched.items():
            failed = (rate, None) in loss.failed
            cell = f"{rate:g}: " + ("failed" if failed else f"{100 * recall:.1f}")
            tried.append(f"**{cell}**" if rate == loss.learning_rate else cell)
        lines.append(f"| {loss.name} | {', '.join(tried)} |")
    return "\n".join(lines)


def _plot(compared, metrics):
    figure = Figure(figsize=(3.5 * len(metrics), 1.5 + 0.3 * len(compared)))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axis, (column, key) in zip(axes, metrics.items(), strict=True):
        for row, loss in enumerate(compared):
            values, color = loss.percent(*key), _COLORS[loss.compares]
            axis.plot(values, [row] * len(values), ".", color=color, alpha=0.5)
            spread = values.std(ddof=1) if len(values) > 1 else None
            axis.errorbar(
                values.mean(), row, xerr=spread, fmt="|", color=color, capsize=4
            )
        axis.set_title(f"{column}, %")
        axis.grid(alpha=0.3)
    axes[0].set_yticks(range(len(compared)), [loss.name for loss in compared])
    axes[0].invert_yaxis()
    for compares, color in _COLORS.items():
        axes[-1].plot([], [], ".", color=color, label=compares)
    axes[-1].legend(title="compares with", loc="best")
    return figure
