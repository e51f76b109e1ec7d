"""The inodes: a model of lookups, opens, renames and forgets, and what must hold after each."""

from __future__ import annotations

import stat

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from headrace.gateways.fuse.abi import ROOT_ID
from headrace.gateways.fuse.inodes import Inode, Inodes, number_of
from headrace.gateways.fuse.modes import Modes

DIRECTORY = Modes(stat.S_IFDIR | 0o755, 0, 0, 1)
FILE = Modes(stat.S_IFREG | 0o644, 0, 0, 1)
NAMES = st.sampled_from(["a", "b", "c"])


class InodesModel(RuleBasedStateMachine):
    """What the kernel was told stays known until it forgets it, whatever happens to its name."""

    known = Bundle("known")

    def __init__(self) -> None:
        super().__init__()
        self.inodes = Inodes("", DIRECTORY)
        self.told: dict[int, int] = {}
        self.directories = [self.inodes.root]

    def parents(self) -> list[Inode]:
        return [one for one in self.directories if one.parent is not None or one.id == ROOT_ID]

    @rule(target=known, name=NAMES, which=st.integers(0, 9), directory=st.booleans())
    def look_up(self, name: str, which: int, directory: bool) -> Inode:
        parents = self.parents()
        parent = parents[which % len(parents)]
        made = self.inodes.add(parent, name, DIRECTORY if directory else FILE)
        made.lookups += 1
        self.told[made.id] = 1
        if directory:
            self.directories.append(made)
        return made

    @rule(inode=known, name=NAMES, which=st.integers(0, 9))
    def rename(self, inode: Inode, name: str, which: int) -> None:
        parents = [one for one in self.parents() if not is_below(one, inode)]
        if inode.parent is not None and parents:
            self.inodes.move(inode, parents[which % len(parents)], name)

    @rule(inode=known)
    def detach(self, inode: Inode) -> None:
        self.inodes.detach(inode)

    @rule(inode=consumes(known))
    def forget(self, inode: Inode) -> None:
        if self.told.pop(inode.id, 0):
            self.inodes.forget(inode.id, 1)

    @invariant()
    def what_was_told_is_known(self) -> None:
        for number in self.told:
            assert self.inodes.get(number) is not None

    @invariant()
    def names_lead_to_their_inodes(self) -> None:
        for number in self.told:
            inode = self.inodes.get(number)
            assert inode is not None
            if inode.parent is not None:
                assert inode.parent.children[inode.name] is inode

    @invariant()
    def numbers_are_of_one_inode_each(self) -> None:
        shown = [inode.number for number in self.told if (inode := self.inodes.get(number)) is not None]
        assert len(shown) == len(set(shown))


def is_below(inode: Inode | None, above: Inode) -> bool:
    while inode is not None:
        if inode is above:
            return True
        inode = inode.parent
    return False


TestInodesModel = InodesModel.TestCase
TestInodesModel.settings = settings(max_examples=60, stateful_step_count=40)


def test_all_is_forgotten_when_the_kernel_forgets_all() -> None:
    inodes = Inodes("", DIRECTORY)
    above = inodes.add(inodes.root, "d", DIRECTORY)
    below = inodes.add(above, "f", FILE)
    above.lookups = below.lookups = 2
    inodes.forget(above.id, 2)
    assert inodes.get(above.id) is above
    inodes.forget(below.id, 2)
    assert len(inodes) == 1
    assert not inodes.root.children


def test_a_path_shows_the_same_number_over_restarts() -> None:
    first, second = Inodes("data", DIRECTORY), Inodes("data", DIRECTORY)
    shown = [tree.add(tree.root, "x", FILE).number for tree in (first, second)]
    assert shown == [number_of("data/x")] * 2


def test_a_renamed_file_and_its_successor_show_different_numbers() -> None:
    inodes = Inodes("", DIRECTORY)
    first = inodes.add(inodes.root, "x", FILE)
    first.lookups = 1
    inodes.move(first, inodes.root, "y")
    assert inodes.add(inodes.root, "x", FILE).number != first.number
