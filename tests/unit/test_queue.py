"""The queue: one at a time per key, any number of causes at once, backoff per key."""

import asyncio

import pytest

from k2_operator.reconcile.workqueue import Backoff, WorkQueue


class Work:
    """Counts; fails as often as it is told to; answers what it is told to."""

    def __init__(self, failures=0, takes=0.0, answers=(), fails=None):
        self.done, self.failed, self.at_once, self.most = [], [], {}, 0
        self.failures, self.takes, self.answers, self.fails = failures, takes, list(answers), fails

    async def __call__(self, key):
        self.at_once[key] = self.at_once.get(key, 0) + 1
        self.most = max(self.most, self.at_once[key])
        await asyncio.sleep(self.takes)
        self.at_once[key] -= 1
        self.done.append(key)
        if self.failures and self.fails in (None, key):
            self.failures -= 1
            raise ValueError(key)
        return self.answers.pop(0) if self.answers else None


def run(work, script, **options):
    async def main():
        queue = WorkQueue(work, lambda key, error: work.failed.append((key, str(error))), **options)
        task = asyncio.create_task(queue.run())
        await script(queue)
        task.cancel()
        return queue

    return asyncio.run(main())


async def until(probe):
    async with asyncio.timeout(60):
        while not probe():  # noqa: ASYNC110 - a probe is no event
            await asyncio.sleep(0.001)


async def until_idle(queue):
    await until(lambda: queue.idle)


def test_many_causes_are_one_piece_of_work():
    async def script(queue):
        for _ in range(100):
            queue.add("a")
        await until_idle(queue)

    work = Work()
    run(work, script)
    assert work.done == ["a"]


def test_a_cause_during_the_work_is_one_more_piece_afterwards_and_never_two_at_once():
    async def script(queue):
        queue.add("a")
        await asyncio.sleep(0.01)
        for _ in range(10):
            queue.add("a")
        await asyncio.sleep(0.03)
        await until_idle(queue)

    work = Work(takes=0.02)
    run(work, script)
    assert work.done == ["a", "a"]
    assert work.most == 1


def test_keys_are_worked_on_side_by_side():
    async def script(queue):
        for key in "abcd":
            queue.add(key)
        await asyncio.sleep(0.01)
        assert len(work.at_once) == 4
        await until_idle(queue)

    work = Work(takes=0.03)
    run(work, script, workers=4)
    assert sorted(work.done) == list("abcd")


def test_a_failure_comes_again_after_its_backoff_and_others_go_on():
    async def script(queue):
        queue.add("a")
        queue.add("b")
        await until(lambda: work.done.count("a") == 3)
        await until_idle(queue)
        assert queue.failures("a") == 0

    work = Work(failures=2, fails="a")
    run(work, script, workers=1, backoff=Backoff(0.01, 0.05), chance=lambda: 0.0)
    assert work.failed == [("a", "a"), ("a", "a")]
    assert "b" in work.done[:2]


def test_a_new_cause_does_not_wait_for_the_backoff():
    async def script(queue):
        queue.add("a")
        await until(lambda: queue.failures("a") == 1)
        queue.add("a")
        await until(lambda: len(work.done) == 2)
        await until_idle(queue)

    work = Work(failures=1)
    run(work, script, backoff=Backoff(60, 60))
    assert work.done == ["a", "a"]


def test_work_may_ask_to_come_again():
    async def script(queue):
        queue.add("a")
        await until(lambda: len(work.done) == 2)

    work = Work(answers=[0.01])
    run(work, script)
    assert work.done == ["a", "a"]


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.5), (2, 1.0), (4, 4.0), (20, 60.0), (5000, 60.0)])
def test_backoff_doubles_up_to_a_minute(failures, seconds):
    assert Backoff().after(failures, 0.0) == seconds
    assert Backoff().after(failures, 0.999) > seconds * 0.75
