"""How far to trust what an index finds."""

from keras_dml.evaluation import Neighbours


def describe_agreement(index: Neighbours, k: int) -> str:
    """Says how far an index agrees with exact search, and what each costs.

    Args:
        index: the index.
        k: how many neighbours it is asked for.
    """
    if index.kind == "exact":
        return "The search is exact."
    found = index.calibration
    if found is None:
        return f"How far the {index.kind} index agrees with exact search is not known."
    line = (
        f"The {index.kind} index agreed with exact search on "
        f"{100 * found.agreement:.1f} % of the {found.k} nearest, at "
        f"{found.ms_per_query:.2g} ms a query; exact search takes "
        f"{found.exact_ms_per_query:.2g} ms."
    )
    if found.ms_per_query > found.exact_ms_per_query:
        line += " An index of kind exact is the faster way."
    if k > found.k:
        line += f" For {k} the agreement was not measured, and may be less."
    return line
