"""The page's words on worst cases per image, and its table of doubled steps."""

from __future__ import annotations

from prunegrid.orchestrator.report.analysis import Analysis
from prunegrid.orchestrator.report.convergence import TOLERANCE_FRAC
from prunegrid.orchestrator.report.html_tables import esc, row, table, text_cell
from prunegrid.orchestrator.report.results import Setting, attack_title, eps_text, records
from prunegrid.orchestrator.report.trust import of_protocol


def per_image_text(a: Analysis, setting: Setting, protocol: str) -> str:
    """HTML for the caption: what the lower row of panels shows, or why there is none."""
    found = of_protocol(a.worst_images, setting, protocol)
    if found.empty:
        return (
            "An adversary who may choose the attack for every single image does at least as well; "
            "how well needs image rows of two attacks, which this store has not."
        )
    attacks = str(found["attacks"].iloc[0]).split("+")
    names = ", ".join(attack_title(attack) for attack in attacks)
    text = (
        f"Below, an adversary who chooses the attack for every single image: an image "
        f"stands where none of {names} breaks it."
    )
    others = set(of_protocol(a.cells, setting, protocol)["attack"]) - set(attacks)
    if others:
        text += f" No image rows of {', '.join(attack_title(o) for o in sorted(others))}."
    return esc(text)


def convergence_html(a: Analysis, setting: Setting, protocol: str) -> str:
    """A heading and a table, or nothing where no attack was run with twice its steps."""
    found = of_protocol(a.convergence, setting, protocol)
    if found.empty:
        return ""
    rows = [
        row(
            f"{attack_title(str(r.attack))}, ε = {eps_text(str(r.norm), float(r.eps))}",
            [
                f"<td>{r.steps} and {2 * r.steps}</td><td>{r.models}</td>",
                f"<td>{100 * r.robust:.2f}</td><td>{100 * r.robust_doubled:.2f}</td>",
                f"<td>{100 * r.largest_drop:.2f}</td>",
                text_cell(f"{r.converged} of {r.models} models"),
            ],
        )
        for r in records(found)
    ]
    head = ["attack", "steps", "models", "robust, %", "with twice the steps", "largest drop"]
    return (
        f"<h3>Convergence, protocol {esc(protocol)}</h3>"
        + table([*head, "converged"], rows, words=["converged"])
        + '<p class="note">The same attack with twice the steps, on the same images. Converged: it '
        f"breaks at most {TOLERANCE_FRAC:.0%} of a model's images anew.</p>"
    )
