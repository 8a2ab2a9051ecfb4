"""Carlini & Wagner's L2 attack.

Carlini, Wagner 2017, "Towards Evaluating the Robustness of Neural Networks", section 6:
minimise ||x' - x||^2 + c * max(Z_label - max Z_other + confidence, 0) over tanh space by Adam,
with a search over the constant c. Foolbox 3.3.4: L2CarliniWagnerAttack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from workers.attacks.base import Batch, Found, Job, row_norms
from workers.attacks.network import Network, at, best_other, micro_batches
from workers.attacks.pace import Pace
from workers.keys import Scalar

BETA_1, BETA_2, ADAM_EPSILON = 0.9, 0.999, 1e-8
#: Above ten searches Foolbox spends the last one at the upper bound, this at most.
LAST_CONST = 1e10


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

    def _corrections(self) -> np.ndarray:
        """Adam's bias corrections after step t + 1: float64 powers, then float32 [steps, 2]."""
        pairs = [(1 - BETA_1**t, 1 - BETA_2**t) for t in range(1, self.steps + 1)]
        return np.array(pairs, np.float64).astype(np.float32)

    def _next_const(
        self, const: np.ndarray, lower: np.ndarray, upper: np.ndarray, search: int
    ) -> np.ndarray:
        """float64 [n]: ten times as much until something is found, then halve the interval."""
        if search == self.searches - 1 and self.searches >= 10:
            return np.minimum(upper, LAST_CONST)
        with np.errstate(invalid="ignore"):
            return np.where(np.isinf(upper), const * 10, (lower + upper) / 2)

    # ------------------------------------------------------------------ as Foolbox does it

    def foolbox(self, network: Network, batch: Batch, job: Job) -> tuple[Found, ...]:
        """The batch goes through the steps together, and stops on its summed loss."""
        n = len(batch)
        start = _to_attack_space(network)(batch.images)
        x_attack, reconstructed = start
        advance = _batch_stepper(network, self)
        corrections = tf.constant(self._corrections())
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
        norms = best_norm.numpy().astype(np.float64)
        images = best.numpy()
        # Where it finds nothing Foolbox returns a black image, and the judge looks at that too.
        distance = np.where(np.isfinite(norms), norms, row_norms(images - batch.images, "l2"))
        queries = np.full(n, passes + 1, np.int64)
        claimed = np.isfinite(norms)
        return (Found(images=images, claimed=claimed, distance=distance, queries=queries),)

    # ------------------------------------------------------------------ per image

    def strict(self, network: Network, batch: Batch, job: Job) -> tuple[Found, ...]:
        """Each image has its own constant, step count and end."""
        n = len(batch)
        size = job.micro_batch
        advance = _image_stepper(network, self)
        corrections = tf.constant(self._corrections())
        x_attack = np.empty_like(batch.images)
        reconstructed = np.empty_like(batch.images)
        enter = _to_attack_space(network)
        for rows, padded in micro_batches(np.arange(n), size):
            a, r = enter(batch.images[padded])
            x_attack[rows] = a.numpy()[: len(rows)]
            reconstructed[rows] = r.numpy()[: len(rows)]
        labels = batch.labels.astype(np.int32)
        const = np.full(n, self.initial_const)
        lower, upper = np.zeros(n), np.full(n, np.inf)
        search, step = np.zeros(n, np.int32), np.zeros(n, np.int32)
        delta, m, v, best = (np.zeros_like(batch.images) for _ in range(4))
        best_norm = np.full(n, np.inf, np.float32)
        hit = np.zeros(n, bool)
        previous = np.full(n, np.inf)
        queries = np.zeros(n, np.int64)
        pace = Pace(most=max(1, self.interval))
        while len(active := np.flatnonzero(search < self.searches)):
            with pace:
                count = pace.count
                for rows, padded in micro_batches(active, size):
                    k = len(rows)
                    out = advance(
                        batch.images[padded], x_attack[padded], reconstructed[padded],
                        labels[padded], const[padded].astype(np.float32), corrections,
                        delta[padded], m[padded], v[padded], hit[padded], best[padded],
                        best_norm[padded], previous[padded], step[padded], np.int32(count),
                    )  # fmt: skip
                    values = [t.numpy()[:k] for t in out]
                    delta[rows], m[rows], v[rows], hit[rows], best[rows] = values[:5]
                    best_norm[rows], previous[rows] = values[5:7]
                    queries[rows] += values[8] - step[rows]
                    step[rows] = values[8]
                    over = rows[values[7] | (values[8] >= self.steps)]
                    upper[over] = np.where(hit[over], const[over], upper[over])
                    lower[over] = np.where(hit[over], lower[over], const[over])
                    search[over] += 1
                    next_const = np.where(
                        np.isinf(upper[over]), const[over] * 10, (lower[over] + upper[over]) / 2
                    )
                    if self.searches >= 10:
                        last = search[over] == self.searches - 1
                        next_const = np.where(last, np.minimum(upper[over], LAST_CONST), next_const)
                    const[over] = next_const
                    for state in (delta, m, v):
                        state[over] = 0.0
                    hit[over], previous[over], step[over] = False, np.inf, 0
                    pace.did(count)
            done = (search + step / self.steps) / self.searches
            job.ticker.tick(float(done.mean()), f"C&W, {len(active)} images at work")
        claimed = np.isfinite(best_norm)
        return (
            Found(
                images=best,
                claimed=claimed,
                distance=best_norm.astype(np.float64),
                queries=queries,
            ),
        )


Step = Callable[..., Any]


def _to_attack_space(network: Network) -> Callable[..., Any]:
    def enter(x):  # type: ignore[no-untyped-def]
        y = tf.atanh((x - 0.5) / 0.5 * 0.999999)
        return y, tf.tanh(y) * 0.5 + 0.5

    return network.compiled(("cw-enter",), enter, [network.image_spec()])


def _one_step(network, attack, x, x_attack, reconstructed, labels, consts, delta, m, v, pair):  # type: ignore[no-untyped-def]
    """One Adam step. Returns the new (delta, m, v), and of the point before it: loss per image,
    image, class changed, L2 norm."""
    with tf.GradientTape() as tape:
        tape.watch(delta)
        image = tf.tanh(x_attack + delta) * 0.5 + 0.5
        scores = network.scores(image)
        margin = at(scores, labels) - at(scores, best_other(scores, labels))
        margin = tf.maximum(margin + attack.confidence, 0.0) * consts
        squared = tf.reduce_sum(
            tf.square(tf.reshape(image - reconstructed, (tf.shape(image)[0], -1))), axis=-1
        )
        loss = tf.reduce_sum(margin) + tf.reduce_sum(squared)
    gradient = tape.gradient(loss, delta)
    m = BETA_1 * m + (1 - BETA_1) * gradient
    v = BETA_2 * v + (1 - BETA_2) * tf.pow(gradient, 2.0)
    first, second = pair
    delta = delta - attack.stepsize * (m / first) / (tf.sqrt(v / second) + ADAM_EPSILON)
    if attack.confidence != 0:
        scores += tf.one_hot(labels, depth=scores.shape[-1], on_value=np.float32(attack.confidence))
    changed = tf.argmax(scores, axis=-1, output_type=tf.int32) != labels
    flat = tf.reshape(image - x, (tf.shape(image)[0], -1))
    norm = tf.sqrt(tf.reduce_sum(tf.square(flat), axis=-1))
    return (delta, m, v), (loss, margin + squared, image, changed, norm)


def _record(best, best_norm, image, norm, take):  # type: ignore[no-untyped-def]
    take = take & (norm < best_norm)
    best = tf.where(take[:, None, None, None], image, best)
    return best, tf.where(take, norm, best_norm)


def _key(attack: CarliniWagnerL2) -> tuple[Any, ...]:
    return (attack.steps, attack.stepsize, attack.confidence, attack.abort_early)


def _signature(network: Network, *, per_image: bool) -> list[tf.TensorSpec]:
    image, row = network.image_spec(), tf.TensorSpec((None,), tf.float32)
    whole = tf.TensorSpec((None,) if per_image else (), tf.int32)
    return [
        image, image, image, tf.TensorSpec((None,), tf.int32), row,
        tf.TensorSpec((None, 2), tf.float32), image, image, image,
        tf.TensorSpec((None,), tf.bool), image, row,
        tf.TensorSpec((None,) if per_image else (), tf.float64),
        whole, tf.TensorSpec((), tf.int32),
    ]  # fmt: skip


def _batch_stepper(network: Network, attack: CarliniWagnerL2) -> Step:
    def advance(  # type: ignore[no-untyped-def]
        x, x_attack, reconstructed, labels, consts, corrections,
        delta, m, v, hit, best, best_norm, previous, step, stop,
    ):  # fmt: skip
        aborted = tf.constant(False)
        while step < stop and not aborted:
            pair = (corrections[step, 0], corrections[step, 1])
            (delta, m, v), (loss, _, image, changed, norm) = _one_step(
                network, attack, x, x_attack, reconstructed, labels, consts, delta, m, v, pair
            )
            if attack.abort_early:
                check = step % attack.interval == 0
                enough = loss <= tf.cast(0.9999 * previous, tf.float32)
                aborted = check & ~enough
                previous = tf.where(check, tf.cast(loss, tf.float64), previous)
            take = changed & ~aborted
            hit = hit | take
            best, best_norm = _record(best, best_norm, image, norm, take)
            step += 1
        return delta, m, v, hit, best, best_norm, previous, aborted, step

    key = ("cw-batch", *_key(attack))
    return network.compiled(key, advance, _signature(network, per_image=False))


def _image_stepper(network: Network, attack: CarliniWagnerL2) -> Step:
    def advance(  # type: ignore[no-untyped-def]
        x, x_attack, reconstructed, labels, consts, corrections,
        delta, m, v, hit, best, best_norm, previous, step, count,
    ):  # fmt: skip
        over = tf.zeros_like(hit)
        for _ in tf.range(count):
            if tf.reduce_all(over):
                break
            pair = tf.gather(corrections, tf.minimum(step, attack.steps - 1))
            pair = (pair[:, 0, None, None, None], pair[:, 1, None, None, None])
            (new_delta, new_m, new_v), (_, loss, image, changed, norm) = _one_step(
                network, attack, x, x_attack, reconstructed, labels, consts, delta, m, v, pair
            )
            live = ~over
            if attack.abort_early:
                check = live & (step % attack.interval == 0)
                enough = loss <= tf.cast(0.9999 * previous, tf.float32)
                previous = tf.where(check, tf.cast(loss, tf.float64), previous)
                over |= check & ~enough
            take = changed & live
            hit = hit | take
            best, best_norm = _record(best, best_norm, image, norm, take)
            wide = live[:, None, None, None]
            delta = tf.where(wide, new_delta, delta)
            m, v = tf.where(wide, new_m, m), tf.where(wide, new_v, v)
            step = tf.where(live, step + 1, step)
            over |= step >= attack.steps
        return delta, m, v, hit, best, best_norm, previous, over, step

    key = ("cw-image", *_key(attack))
    return network.compiled(key, advance, _signature(network, per_image=True))
