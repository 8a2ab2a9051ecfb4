"""What the CSV files hold. Pure; accuracies and margins are fractions."""

from __future__ import annotations

import dataclasses

import pandas as pd

from prunegrid.orchestrator.report.analysis import Analysis
from prunegrid.orchestrator.report.findings import findings
from prunegrid.orchestrator.report.results import SETTING, eps_text


def frames(analysis: Analysis) -> dict[str, pd.DataFrame]:
    """A frame per file, by the file's stem."""
    out = {
        "clean": analysis.clean,
        "cells": analysis.cells,
        "worst_case": analysis.worst,
        "worst_case_per_image": analysis.worst_images,
        "convergence": analysis.convergence,
        "sweet_cells": analysis.sweet,
        "sweet_models": analysis.sweet_models,
        "strategies": _strategies(analysis),
        "how_far": analysis.margins,
        "missing": analysis.missing,
        "flat_curves": analysis.flat,
        "findings": _findings(analysis),
    }
    if analysis.paper is not None:
        out["against_paper"] = _paper(analysis)
    if analysis.stores is not None:
        sides = [
            c.table.assign(a=c.a, b=c.b, architecture=c.architecture, dataset=c.dataset)
            for c in analysis.stores
        ]
        out["against_store"] = pd.concat(sides) if sides else pd.DataFrame()
    for name, frame in out.items():
        if {"norm", "eps"} <= set(frame.columns):
            labels = [
                "" if pd.isna(e) else eps_text(str(n), float(e))
                for n, e in zip(frame["norm"], frame["eps"], strict=True)
            ]
            out[name] = frame.assign(eps_label=labels)
    return out


def _strategies(analysis: Analysis) -> pd.DataFrame:
    rows = []
    for s in analysis.strategies:
        flat = {f.name: getattr(s, f.name) for f in dataclasses.fields(s) if f.name != "setting"}
        for part in ("clean", "score", "margin"):
            found = flat.pop(part)
            flat |= {f"{part}_{key}": value for key, value in dataclasses.asdict(found).items()}
        rows.append(dict(zip(SETTING, s.setting, strict=True)) | flat)
    return pd.DataFrame(rows)


def _findings(analysis: Analysis) -> pd.DataFrame:
    rows = [
        {
            **dict(zip(SETTING, f.setting, strict=True)),
            "protocol": f.protocol,
            "topic": f.topic.value,
            "text": f.text,
        }
        for f in findings(analysis)
    ]
    return pd.DataFrame(rows, columns=[*SETTING, "protocol", "topic", "text"])


def _paper(analysis: Analysis) -> pd.DataFrame:
    rows = []
    for c in analysis.paper or ():
        for found in c.cells:
            rows.append(
                dict(zip(SETTING, c.setting, strict=True))
                | {"protocol": c.protocol}
                | dataclasses.asdict(found.cell)
                | {
                    "eps_here": found.eps,
                    "n": found.ours.n,
                    "mean": found.ours.mean,
                    "sd": found.ours.sd,
                    "half": found.ours.half,
                    "difference_points": found.difference,
                    "verdict": found.verdict.value,
                    "implied": found.implied,
                }
            )
    return pd.DataFrame(rows)
