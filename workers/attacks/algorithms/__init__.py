"""The attacks: one module, or one package, for each algorithm.

To add an attack, write one module here. Nothing else needs an edit: the catalog imports every
module of this folder, and the grid file, `prunegrid tune` and the tests over the catalog take from
it what it declares. For example, `fgm_l2.py`:

    @attack(AttackEntry(name="fgm_l2", title="FGM L2", norm="l2", finds="fixed-eps"))
    @dataclass(frozen=True, kw_only=True)
    class FGML2(Attack):
        steps: int = count(1, "steps of equal length", search=(1, 100), spends="steps")

        def strict(self, network: Network, batch: Batch, context: AttackContext) -> Results: ...

The fields are the options, each with its type, default, bounds and meaning
(`attacks/declaration.py`). The engines follow from the methods that the class has: `strict`,
`foolbox`, and `foolbox-stock` where `foolbox_class` names a class of Foolbox. `attacks/base.py`
says what the methods get and return.

A module's top level must import neither TensorFlow nor Foolbox: the driver imports it to check
grid files. Methods import what builds graphs where they need it. An attack of several files is a
package, whose `__init__.py` has the class and whose other modules may import TensorFlow.
"""
