"""Grid texts for tests."""

from __future__ import annotations

import textwrap

SMALL = textwrap.dedent(
    """\
    name: small
    seeds: [0, 1]
    rates: [1, 2, 4]
    methods: [magnitude-global-unstructured, random-local-filter]
    architectures:
      cnn5:
        dataset: synthetic28
        attack_images: 24
        images_per_shard: 16
        training: {max_epochs: 2, batch_size: 32}
        eps:
          pgd_linf: [4/255, 8/255]
          cw_l2: [1, 2]
    attacks:
      pgd_linf: {steps: 3}
      cw_l2: {binary_search_steps: 2, steps: 5}
    """
)


#: As SMALL, with adversarials shown between dense and pruned models.
TRANSFERRED = SMALL + "transfer: true\n"

#: As SMALL, with a check of convergence.
DOUBLED = SMALL.replace(
    "      cw_l2: [1, 2]\n", "      cw_l2: [1, 2]\n      cw_l2_x2: [1, 2]\n"
).replace(
    "  cw_l2: {binary_search_steps: 2, steps: 5}\n",
    "  cw_l2: {binary_search_steps: 2, steps: 5}\n"
    "  cw_l2_x2: {attack: cw_l2, binary_search_steps: 2, steps: 10}\n",
)


def with_seeds(*seeds: int) -> str:
    return SMALL.replace("seeds: [0, 1]", f"seeds: [{', '.join(map(str, seeds))}]")


#: As SMALL, one method, with `auto` sizes as earlier versions read them.
AUTO = (
    SMALL.replace(
        "methods: [magnitude-global-unstructured, random-local-filter]",
        "methods: [random-local-filter]",
    )
    .replace("    attack_images: 24\n    images_per_shard: 16\n", "    attack_images: 90\n")
    .replace("architectures:", "images_per_shard: auto\narchitectures:")
) + "protocols: {strict: {batch_size: auto}}\n"
