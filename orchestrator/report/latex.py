"""LaTeX with booktabs, no other package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{c: "\\" + c for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "∞": r"$\infty$",
    "ε": r"$\varepsilon$",
    "±": r"$\pm$",
    "–": "--",
    "−": "$-$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def escape(text: object) -> str:
    return "".join(_SPECIAL.get(c, c) for c in str(text))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, left: int) -> str:
    """`head` and `caption` are escaped here, `rows` come escaped; `left` columns hold text."""
    columns = "l" * left + "r" * (len(head) - left)
    body = "\n".join(" & ".join(row) + r" \\" for row in rows)
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{escape(caption)}}}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
        + " & ".join(map(escape, head))
        + f" \\\\\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def document(tables: Iterable[str]) -> str:
    return "% needs \\usepackage{booktabs}\n" + "\n".join(tables)
