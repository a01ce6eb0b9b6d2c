"""The elements of an array: handles by index, before anything is sent."""

from __future__ import annotations

import pytest

from openssh_jobs import Cluster, Job
from openssh_jobs.cluster.journal import Journal
from openssh_jobs.cluster.specification import job_ids
from openssh_jobs.errors import InputError

from .fakes import row


@pytest.fixture
def cluster(journal: Journal) -> Cluster:
    return Cluster("h", scheduler="sge", journal=journal)


def array_of(cluster: Cluster, array: str | None, job_id: str = "7") -> Job:
    journal = cluster.journal
    journal.open_row(row(f"t{job_id}", array=array, scheduler="sge"))
    journal.change("h", f"t{job_id}", job_id=job_id, state="pending")
    return cluster.job(job_id)


def test_elements_by_their_index(cluster: Cluster) -> None:
    job = array_of(cluster, "2-8:3%2")
    assert [one.id for one in job] == ["7.2", "7.5", "7.8"]
    assert (len(job), job[5].id, job[5].directory) == (3, "7.5", "/d")
    assert job[5].token is None, "the token is that of the whole array"


@pytest.mark.parametrize("index", [3, 0, -2, 9, True, "5", slice(1, 3)])
def test_an_element_that_it_does_not_have(cluster: Cluster, index: object) -> None:
    with pytest.raises(InputError, match=r"no element|must be an integer"):
        array_of(cluster, "2-8:3")[index]  # type: ignore[index]


def test_a_job_that_is_not_an_array(cluster: Cluster) -> None:
    job = array_of(cluster, None)
    assert ([one.id for one in job], len(job), bool(job)) == (["7"], 1, True)
    with pytest.raises(InputError, match="job 7 is not an array"):
        job[1]


def test_elements_of_a_job_from_elsewhere_are_not_known(cluster: Cluster) -> None:
    job = cluster.job("99")
    assert bool(job)
    for ask in (job.elements, lambda: len(job), lambda: job[1]):
        with pytest.raises(InputError, match="not known whether it is an array"):
            ask()
    assert [one.id for one in array_of(cluster, "1-3")[2].elements()] == ["7.2"]


def test_a_dependency_on_an_array_is_one_on_the_whole(cluster: Cluster) -> None:
    job = array_of(cluster, "1-3")
    assert job_ids(job, "h") == ("7",)
    assert job_ids([job[2], "8"]) == ("7.2", "8")
    with pytest.raises(InputError, match="the job 7 is one of h, not of other"):
        job_ids([job], "other")
