"""The recorded exchanges with a real CouchDB 3.5.0 cluster, made again.

The same request in the same state must have the same status and the same shape of body. Keys and types must be the
same, and values too where they do not depend on chance. All requests are made to the simulated cluster. A real cluster
gets the requests that neither kill nodes nor change its databases, where PERUSERD_TEST_CLUSTER names its nodes
(`url1,url2,url3`, with credentials). These show that the recording is still true.
"""

import os
import re
from collections.abc import Iterator, Mapping

import pytest

from peruserd.simcluster import SimClusterThread
from tests.contract.recordings import DIRECTORY, ENEMY, EXCHANGES, HANDING_OVER, USERS, Recorded
from tests.contract.replaying import Cluster, replay_simulated


def _assert_as_recorded(exchanges: list[Recorded], outcomes: Mapping[int, list[str]]) -> None:
    """Fail with all exchanges that differ: their numbers, states and cases, and how each differs."""
    differing = [
        f"{index:03d} {exchanges[index].state}: {exchanges[index].case}: {'; '.join(differences)}"
        for index, differences in outcomes.items()
        if differences
    ]
    assert not differing, "\n".join(differing)


def _assert_all_as_recorded(exchanges: list[Recorded], outcomes: list[list[str]]) -> None:
    assert len(outcomes) == len(exchanges)
    _assert_as_recorded(exchanges, dict(enumerate(outcomes)))


def test_what_an_enemy_does_is_answered_as_recorded() -> None:
    """Sign-up by anybody, revisions of choice, ids of odd bytes, single copies, readers, and locked accounts."""
    _assert_all_as_recorded(ENEMY, replay_simulated(ENEMY))


def test_the_feed_of_shard_maps_is_as_recorded() -> None:
    """Databases made, deleted and split are listed by name, with one sequence for each time a map was written."""
    # A new cluster has another database of the system, made after the one for authentication.
    outcomes = replay_simulated(DIRECTORY, lambda _, cluster: cluster.create("/_replicator"))
    _assert_all_as_recorded(DIRECTORY, outcomes)


def test_leases_and_returning_nodes_are_as_recorded() -> None:
    """Leases by name, and the fate of a security object on a minority or on a majority of the nodes."""
    _assert_all_as_recorded(HANDING_OVER, replay_simulated(HANDING_OVER))


def test_the_simulated_cluster_answers_as_recorded() -> None:
    """The same request in the same state has the same status and shape of body."""

    def prepare(simulated: SimClusterThread, _: Cluster) -> None:
        for user in USERS:
            simulated.add_user(user, "x")

    _assert_all_as_recorded(EXCHANGES, replay_simulated(EXCHANGES, prepare))


# Exchanges for a real cluster read it, write local documents under a name of our own, and use databases of our own.
# Left out are exchanges that
# - kill nodes, or split or delete `_users`;
# - depend on the configuration, on the recorded users or on other databases;
# - read copies with different documents, because the cluster shows either;
# - make a write again at once, because a copy that is behind accepts it;
# - send wrong passwords, because they lock the account when the tests run often.
REAL = (
    *(*range(5), 6, *range(9, 15), 22, 23, 24, 25, 27, 31, 32, 34),
    *(*range(38, 43), *range(44, 77), *range(125, 131), *range(134, 139), *range(140, 143), 144),
)
# Of those, the ones about ranges of `_users`, which are as recorded only where it has two.
OF_TWO_RANGES = (9, 11, 13, 22, 23, 24, 25, 27, 31, 32, 34)
OWN_DATABASES = re.compile(r"/(userdb[-%][^/?]*)")


@pytest.fixture(scope="module")
def real_outcomes() -> Iterator[dict[int, list[str]]]:
    """The exchanges that can be made of a real cluster, and how each differs; what they made is removed again."""
    urls = os.environ.get("PERUSERD_TEST_CLUSTER", "").split(",")
    if len(urls) < 3:
        pytest.skip("PERUSERD_TEST_CLUSTER does not name three nodes")
    cluster = Cluster(urls[:3], None, EXCHANGES)
    created = [EXCHANGES[index] for index in REAL if EXCHANGES[index].method == "PUT"]
    own = sorted({match[1] for each in created if (match := OWN_DATABASES.match(each.path))})
    try:
        if any(cluster.exists(f"/{name}") for name in own):
            pytest.skip("the cluster holds a database of a name that the recording makes")
        skipped = () if cluster.has_two_ranges() else OF_TWO_RANGES
        yield {index: cluster.replay(index) for index in REAL if index not in skipped}
        for name in own:
            cluster.delete(f"/{name}")
        cluster.delete("/_users/_local/peruserd.probe")
    finally:
        cluster.close()


def test_a_real_cluster_still_answers_as_recorded(real_outcomes: dict[int, list[str]]) -> None:
    """The recording is still true of the server at hand. Exchanges about two ranges need a cluster with two."""
    _assert_as_recorded(EXCHANGES, real_outcomes)
