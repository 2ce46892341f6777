"""The table and the plots of an ablation."""

import pathlib
import types
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments._studies.claims import Variant
from experiments._studies.tables import flat
from experiments._studies.tables import mean_and_spread
from experiments._studies.tables import with_seeds
from experiments._studies.tables import write_csv

_COLUMNS = {
    "R@1 float": ("float", "recall@1"),
    "R@1 binary": ("binary", "recall@1"),
    "MAP@R float": ("float", "map@r"),
}


def write_ablation_report(
    folder: pathlib.Path,
    variants: Mapping[str, Sequence[Variant]],
    seeds: Sequence[int],
    runs: Mapping[str, Mapping],
    failed: Mapping[str, str] = types.MappingProxyType({}),
) -> str:
    """Writes `table.md`, `results.csv` and `claims.png`.

    Args:
        folder: the folder of the results.
        variants: {claim: its variants}.
        seeds: the seeds that each was run with.
        runs: {"<variant name>,seed=<seed>": what `train_and_measure` returned}.
        failed: {"<variant name>,seed=<seed>": why it has no figures}; every run is
            here or in `runs`.

    Returns:
        The table, in Markdown: percent, mean ± standard deviation over seeds (of the
        sample, so with n - 1; none for a single seed). Where seeds failed, the row says
        how many did not. Below it is a line for each run that failed.
    """
    figures = {
        claim: [
            {
                column: np.array(
                    [
                        runs[name]["metrics"][kind][metric]
                        for name in _names(variant, seeds)
                        if name in runs
                    ]
                )
                for column, (kind, metric) in _COLUMNS.items()
            }
            for variant in claim_variants
        ]
        for claim, claim_variants in variants.items()
    }
    table = _table(variants, figures, len(seeds))
    for name, why in failed.items():
        table += f"\n\n{name} failed: {why}"
    (folder / "table.md").write_text(table + "\n", encoding="utf-8")
    _write_csv(folder / "results.csv", variants, seeds, runs, failed)
    _plots(variants, figures).savefig(folder / "claims.png", dpi=100)
    return table


def _names(variant, seeds):
    return [f"{variant.name},seed={seed}" for seed in seeds]


def _table(variants, figures, seeds):
    lines = [
        f"| claim | value | {' | '.join(_COLUMNS)} |",
        "| --- | --- |" + " --- |" * len(_COLUMNS),
    ]
    for claim, claim_variants in variants.items():
        for variant, columns in zip(claim_variants, figures[claim], strict=True):
            label = variant.label if variant.overrides else f"**{variant.label}**"
            label = with_seeds(label, len(next(iter(columns.values()))), seeds)
            cells = " | ".join(
                mean_and_spread(100 * values) for values in columns.values()
            )
            lines.append(f"| {claim} | {label} | {cells} |")
    return "\n".join(lines)


def _write_csv(file, variants, seeds, runs, failed):
    rows = []
    for claim, claim_variants in variants.items():
        for variant in claim_variants:
            for seed, name in zip(seeds, _names(variant, seeds), strict=True):
                row = {"claim": claim, "value": variant.label, "seed": seed}
                if name in failed:
                    row |= {"failed": failed[name]}
                else:
                    run = runs[name]
                    row |= {"seconds": run["seconds"]} | flat(run["metrics"])
                rows.append(row)
    write_csv(file, rows)


def _plots(variants, figures):
    figure = Figure(figsize=(4 * len(variants), 4), layout="constrained")
    axes = figure.subplots(1, len(variants), squeeze=False, sharey=True)[0]
    for axis, (claim, claim_variants) in zip(axes, variants.items(), strict=True):
        positions = np.arange(len(claim_variants))
        for column in _COLUMNS:
            values = [100 * row[column] for row in figures[claim]]
            axis.errorbar(
                positions,
                [row.mean() if len(row) else np.nan for row in values],
                [row.std(ddof=1) if len(row) > 1 else np.nan for row in values],
                marker="o",
                capsize=4,
                label=column,
            )
        axis.set_xticks(positions, [variant.label for variant in claim_variants])
        axis.set_title(claim)
        axis.margins(x=0.15)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("%")
    axes[0].legend()
    return figure
