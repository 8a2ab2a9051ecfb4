"""Carlini & Wagner's L2 attack.

Carlini, Wagner 2017, "Towards Evaluating the Robustness of Neural Networks", section 6:
minimise ||x' - x||^2 + c * max(Z_label - max Z_other + confidence, 0) over tanh space by Adam,
with a search over the constant c. Foolbox 3.3.4: L2CarliniWagnerAttack.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from prunegrid.workers.attacks.base import Batch, Found, Job, row_norms
from prunegrid.workers.attacks.boundary_nearest import linear_crossing, nearest_side
from prunegrid.workers.attacks.cw_graph import CWGraph
from prunegrid.workers.attacks.network import Network
from prunegrid.workers.attacks.pace import Pace
from prunegrid.workers.attacks.starts import nearest_starts
from prunegrid.workers.keys import Scalar

#: Above ten searches Foolbox spends the last one at the upper bound, this at most.
LAST_CONST = 1e10
#: Images of other classes that `strict` also starts from where Adam finds nothing.
STARTS = 3


class CarliniWagnerL2:
    def __init__(self, options: Mapping[str, Scalar]) -> None:
        self.searches = int(options["binary_search_steps"] or 0)
        self.steps = int(options["steps"] or 0)
        self.stepsize = float(options["stepsize"] or 0.0)
        self.initial_const = float(options["initial_const"] or 0.0)
        self.confidence = float(options["confidence"] or 0.0)
        self.abort_early = bool(options["abort_early"])
        #: Progress is checked after this many steps.
        self.interval = int(np.ceil(self.steps / 10))

    def _graph(self, network: Network) -> CWGraph:
        return CWGraph(
            network,
            steps=self.steps,
            stepsize=self.stepsize,
            confidence=self.confidence,
            interval=self.interval if self.abort_early else None,
        )

    # ------------------------------------------------------------------ as Foolbox does it

    def foolbox(self, network: Network, batch: Batch, job: Job) -> tuple[Found, ...]:
        """The batch goes through the steps together, and stops on its summed loss."""
        n = len(batch)
        graph = self._graph(network)
        x_attack, reconstructed = graph.enter(batch.images)
        advance = graph.batch_stepper()
        corrections = tf.constant(graph.corrections())
        labels = tf.constant(batch.labels.astype(np.int32))
        x = tf.constant(batch.images)
        const = self.initial_const * np.ones(n)
        lower, upper = np.zeros(n), np.full(n, np.inf)
        best, best_norm = tf.zeros_like(x), tf.fill((n,), np.float32(np.inf))
        passes = 0
        pace = Pace()
        for search in range(self.searches):
            if search == self.searches - 1 and self.searches >= 10:
                const = np.minimum(upper, LAST_CONST)
            consts = tf.constant(const.astype(np.float32))
            delta, m, v = (tf.zeros_like(x) for _ in range(3))
            hit = tf.zeros_like(labels, tf.bool)
            previous = tf.constant(np.inf, tf.float64)
            step, aborted = 0, False
            while step < self.steps and not aborted:
                with pace:
                    stop = min(self.steps, step + pace.count)
                    out = advance(
                        x, x_attack, reconstructed, labels, consts, corrections,
                        delta, m, v, hit, best, best_norm, previous,
                        np.int32(step), np.int32(stop),
                    )  # fmt: skip
                    delta, m, v, hit, best, best_norm, previous, aborted_, at_step = out
                    aborted = bool(aborted_.numpy())
                    reached = int(at_step.numpy())
                    passes += reached - step
                    pace.did(reached - step)
                    step = reached
                note = f"C&W search {search + 1} of {self.searches}"
                job.ticker.tick((search + step / self.steps) / self.searches, note)
            found = hit.numpy()
            upper = np.where(found, const, upper)
            lower = np.where(found, lower, const)
            const = np.where(np.isinf(upper), const * 10, (lower + upper) / 2)
        images = best.numpy()
        # Where it finds nothing Foolbox returns a black image, and asks its class like any other.
        claimed = network.logits(images).argmax(axis=1) != batch.labels
        distance = np.where(claimed, row_norms(images - batch.images, "l2"), np.inf)
        queries = np.full(n, passes + 1, np.int64)
        return (Found(images=images, claimed=claimed, distance=distance, queries=queries),)

    # ------------------------------------------------------------------ per image

    def strict(self, network: Network, batch: Batch, job: Job) -> tuple[Found, ...]:
        """Each image has its own constant, step count and end, and leaves when it is through.

        In the end the best adversarial moves along the boundary to the clean image's nearest side
        (`boundary_nearest.py`), which large steps and constants alone do not find.
        """
        n, lanes = len(batch), job.lanes
        graph = self._graph(network)
        advance = graph.image_stepper()
        corrections = tf.constant(graph.corrections())
        x_attack, reconstructed = (np.empty_like(batch.images) for _ in range(2))
        for rows, padded in lanes.pieces(np.arange(n)):
            with lanes.attempt():
                a, r = (t.numpy()[: len(rows)] for t in graph.enter(batch.images[padded]))
                x_attack[rows], reconstructed[rows] = a, r
        labels = batch.labels.astype(np.int32)
        const = np.full(n, self.initial_const)
        lower, upper = np.zeros(n), np.full(n, np.inf)
        search, step = np.zeros(n, np.int32), np.zeros(n, np.int32)
        delta, m, v, best = (np.zeros_like(batch.images) for _ in range(4))
        best_norm = np.full(n, np.inf, np.float32)
        previous, lowest = np.full(n, np.inf), np.full(n, np.inf)
        hit = np.zeros(n, bool)
        queries = np.zeros(n, np.int64)
        pace = Pace(most=self.interval)
        while len(active := np.flatnonzero(search < self.searches)):
            over = np.zeros(n, bool)
            with pace:
                for rows, padded in lanes.pieces(active):
                    with lanes.attempt():
                        out = advance(
                            batch.images[padded], x_attack[padded], reconstructed[padded],
                            labels[padded], const[padded].astype(np.float32), corrections,
                            delta[padded], m[padded], v[padded], hit[padded], best[padded],
                            best_norm[padded], previous[padded], lowest[padded], step[padded],
                            np.int32(pace.count),
                        )  # fmt: skip
                        values = [t.numpy()[: len(rows)] for t in out]
                        queries[rows] += values[-1] - step[rows]
                        for state, value in zip(
                            (delta, m, v, hit, best, best_norm, previous, lowest, over, step),
                            values,
                            strict=True,
                        ):
                            state[rows] = value
                    done = (search + step / self.steps).mean() / self.searches
                    job.ticker.tick(float(done), f"C&W, {len(active)} images at work")
                pace.did(pace.count)
            upper = np.where(over & hit, const, upper)
            lower = np.where(over & ~hit, const, lower)
            search[over] += 1
            const = np.where(over, self._next_const(const, lower, upper, search), const)
            for state in (delta, m, v):
                state[over] = 0.0
            hit[over], step[over] = False, 0
            previous[over] = lowest[over] = np.inf
        return (self._nearest(network, batch, best, best_norm, queries, job),)

    def _nearest(
        self,
        network: Network,
        batch: Batch,
        best: np.ndarray,
        best_norm: np.ndarray,
        queries: np.ndarray,
        job: Job,
    ) -> Found:
        """Adam's best, or a straight way to the boundary where that is nearer, moved to the
        nearest side; where Adam found nothing, also from the nearest images of other classes."""
        crossing, crossed, passes = linear_crossing(network, batch, job)
        norm = np.where(crossed, row_norms(crossing - batch.images, "l2"), np.inf)
        claimed = crossed | np.isfinite(best_norm)
        start = np.where((norm < best_norm)[:, None, None, None], crossing, best)
        images, more = nearest_side(network, batch, start, claimed, job)
        distance = np.where(claimed, row_norms(images - batch.images, "l2"), np.inf)
        queries = queries + passes + more
        lost = np.flatnonzero(~np.isfinite(best_norm))
        part = batch.take(lost)
        for starts, started in (
            nearest_starts(network, part, job, count=STARTS) if len(lost) else ()
        ):
            others, more = nearest_side(network, part, starts, started, job)
            norm = np.where(started, row_norms(others - part.images, "l2"), np.inf)
            closer = norm < distance[lost]
            images[lost[closer]], distance[lost[closer]] = others[closer], norm[closer]
            claimed[lost] |= started
            queries[lost] += more
        images = np.where(claimed[:, None, None, None], images, batch.images)
        return Found(images=images, claimed=claimed, distance=distance, queries=queries)

    def _next_const(
        self, const: np.ndarray, lower: np.ndarray, upper: np.ndarray, search: np.ndarray
    ) -> np.ndarray:
        """float64 [n]: ten times as much until something is found, then halve the interval;
        the last of ten searches or more repeats the smallest that worked."""
        following = np.where(np.isinf(upper), const * 10, (lower + upper) / 2)
        if self.searches < 10:
            return following
        return np.where(search == self.searches - 1, np.minimum(upper, LAST_CONST), following)
