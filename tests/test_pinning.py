# SPDX-License-Identifier: MIT
"""Which CPUs the two sides get, on machines of many shapes."""

import pytest

from ringbell.pinning import choose_pair


@pytest.fixture
def machine(tmp_path):
    """Write what sysfs says of a machine: per CPU its core's threads and its cache's sharers."""

    def build(cpus):
        for cpu, (threads, sharers) in cpus.items():
            topology = tmp_path / f"cpu{cpu}/topology"
            topology.mkdir(parents=True)
            (topology / "thread_siblings_list").write_text(f"{threads}\n")
            for index, (level, shared) in enumerate([(1, threads), (1, threads), (3, sharers)]):
                cache = tmp_path / f"cpu{cpu}/cache/index{index}"
                cache.mkdir(parents=True)
                (cache / "level").write_text(f"{level}\n")
                (cache / "shared_cpu_list").write_text(f"{shared}\n")
        return tmp_path

    return build


def test_two_cores_of_one_cache_are_preferred_to_two_threads_of_one_core(machine):
    sysfs = machine({0: ("0,1", "0-3"), 1: ("0,1", "0-3"), 2: ("2-3", "0-3"), 3: ("2-3", "0-3")})
    assert choose_pair({0, 1, 2, 3}, sysfs) == (0, 2)
    assert choose_pair({1, 2, 3}, sysfs) == (1, 2)


def test_two_cores_of_one_cache_are_preferred_to_two_of_different_caches(machine):
    sysfs = machine({0: ("0", "0-1"), 1: ("1", "0-1"), 2: ("2", "2-3"), 3: ("3", "2-3")})
    assert choose_pair({0, 2, 3}, sysfs) == (2, 3)


def test_cores_of_different_caches_are_preferred_to_threads_of_one_core(machine):
    sysfs = machine({0: ("0,2", "0,2"), 1: ("1,3", "1,3"), 2: ("0,2", "0,2"), 3: ("1,3", "1,3")})
    assert choose_pair({0, 2, 3}, sysfs) == (0, 3)


def test_two_threads_of_one_core_are_better_than_one_cpu(machine):
    sysfs = machine({0: ("0,1", "0,1"), 1: ("0,1", "0,1")})
    assert choose_pair({0, 1}, sysfs) == (0, 1)


def test_a_machine_that_says_nothing_gets_its_first_two(tmp_path):
    assert choose_pair({5, 2, 9}, tmp_path) == (2, 5)


def test_one_cpu_is_no_pair(tmp_path):
    assert choose_pair({3}, tmp_path) is None
