"""By class and by image: planted images, whose fates are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from prunegrid.orchestrator.report.analysis import analyse
from prunegrid.orchestrator.report.evidence import Evidence, TaskImages
from prunegrid.orchestrator.report.image_fates import (
    class_table,
    flip_table,
    image_table,
    lost_by_all,
)
from prunegrid.orchestrator.report.image_outcomes import ImageOutcomes
from prunegrid.orchestrator.report.page import page
from prunegrid.orchestrator.report.results import Results
from tests.report.synthetic import METHODS, synthetic
from tests.report.test_images import N, shard

METHOD = METHODS[0]


@pytest.fixture(scope="module")
def results() -> Results:
    """C&W alone, at 1, 2, 3 and 4; 20 images of classes 0 to 9."""
    found = synthetic(methods=(METHOD,), rates=(1.0, 2.0), seeds=2)
    return dataclasses.replace(found, cells=found.cells[found.cells["attack"] == "cw_l2"])


@pytest.fixture(scope="module")
def images() -> dict[str, TaskImages]:
    """Image 0 is lost by every model, 1 by the pruned ones, 2 by one pruned one, 3 by the dense
    ones; the others stand up to 3.5."""
    at = {
        (1.0, 0): {0: 0.5, 3: 0.5},
        (1.0, 1): {0: 0.5, 3: 0.5},
        (2.0, 0): {0: 0.5, 1: 0.5, 2: 0.5},
        (2.0, 1): {0: 0.5, 1: 0.5},
    }
    out = {}
    for (rate, seed), broken in at.items():
        distance = np.full(N, 3.5)
        distance[list(broken)] = list(broken.values())
        out[f"attack-cnn5-standard-{METHOD}-{rate:g}-{seed}-cw_l2"] = shard(distance)
    return out


def test_flips_are_counted_within_a_seed(results, images):
    flips = flip_table(results.cells, ImageOutcomes(images)).set_index("eps")
    assert set(flips["rate"]) == {2.0}
    row = flips.loc[1.0]
    assert row.seeds == 2
    assert row.lost == pytest.approx((2 + 1) / 2 / N)
    assert row.lost_always == pytest.approx(1 / N)
    assert row.gained == row.gained_always == pytest.approx(1 / N)
    assert flips.loc[4.0, "lost"] == 0, "nothing stands at 4"


def test_each_image_has_its_models_and_the_lost_are_named(results, images):
    found = image_table(results.cells, ImageOutcomes(images))
    at = found[found["eps"] == 1.0].set_index("image")
    names = ["label", "dense", "dense_standing", "pruned", "pruned_standing"]
    assert at.loc[0, names].tolist() == [0, 2, 0, 2, 0]
    assert at.loc[1, names].tolist() == [1, 2, 2, 2, 0]
    assert at.loc[3, names].tolist() == [3, 2, 0, 2, 2]
    assert at.loc[12, names].tolist() == [2, 2, 2, 2, 2]
    assert lost_by_all(at.reset_index())["image"].tolist() == [0]
    assert len(lost_by_all(found[found["eps"] == 4.0])) == N


def test_an_image_that_one_model_holds_is_not_lost():
    frame = pd.DataFrame({"dense_standing": [0, 0, 1], "pruned_standing": [0, 1, 0]})
    assert lost_by_all(frame).index.tolist() == [0]


def test_a_dense_model_that_methods_share_counts_once(results, images):
    other = results.cells[results.cells["rate"] == 1.0].assign(method=METHODS[1])
    cells = pd.concat([results.cells, other])
    found = image_table(cells, ImageOutcomes(images))
    assert set(found["dense"]) == {2}


def test_a_class_has_its_images_alone(results, images):
    found = class_table(results.cells, ImageOutcomes(images))
    average = found[found["attack"] == ""].set_index(["rate", "label"])
    assert set(average["images"]) == {2}, "20 images, 10 classes"
    # Class 1: images 1 and 11 stand at 1, 2 and 3 of four levels on the dense model.
    assert average.loc[(1.0, 1), "mean"] == pytest.approx(3 / 4)
    assert average.loc[(2.0, 1), "mean"] == pytest.approx(3 / 8)
    assert average.loc[(2.0, 1), "margin"] == pytest.approx(-3 / 8)
    assert average.loc[(2.0, 2), "margin"] == pytest.approx(-3 / 16), "with one of two seeds"
    assert average.loc[(2.0, 2), "margin_n"] == 2
    assert average.loc[(2.0, 3), "margin"] == pytest.approx(+3 / 8)
    assert set(found["attack"]) == {"", "cw_l2"}


def test_without_labels_there_are_no_classes_but_images(results, images):
    bare = {
        key: dataclasses.replace(rows, label=np.full(len(rows.label), -1))
        for key, rows in images.items()
    }
    outcomes = ImageOutcomes(bare)
    assert class_table(results.cells, outcomes).empty
    assert set(image_table(results.cells, outcomes)["label"]) == {-1}
    analysis = analyse(results, evidence=Evidence(images=bare))
    assert "every model loses 1 of 20 images: 0" in page(analysis, title="t")


def test_the_page_says_it_and_without_image_rows_says_nothing(results, images):
    text = page(analyse(results, evidence=Evidence(images=images)), title="t")
    assert "every model loses 1 of 20 images: 0" in text
    assert f"Robust accuracy by class: unpruned and {METHOD} at rate 2" in text
    assert "Images that pruning flips" in text
    assert "By class and by image" not in page(analyse(results), title="t")
