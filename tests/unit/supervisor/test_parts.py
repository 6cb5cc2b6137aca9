import os
import signal
import sys

import pytest

from pipeline.supervisor.plan import Plan, split_queues
from pipeline.supervisor.process import describe
from pipeline.supervisor.report import Receiver, Reporter
from pipeline.supervisor.signals import Signals


def test_a_plan_is_a_command_line():
    program = [sys.executable, "-m", "pipeline.supervisor.child", "--report", "5", "--board", "6", "--threads", "8"]

    assert Plan(("actors",), (), 8).command(5, 6) == [
        *(*program, "--max-tasks", "0", "--max-memory-mb", "0", "--", "actors"),
    ]
    assert Plan(("a", "b"), ("x", "y"), 8, max_tasks=3, max_memory_mb=200).command(5, 6) == [
        *(*program, "--max-tasks", "3", "--max-memory-mb", "200", "--queues", "x,y", "--", "a", "b"),
    ]


@pytest.mark.parametrize(("text", "queues"), [(None, ()), ("", ()), ("a", ("a",)), (" a, b ,", ("a", "b")), (",", ())])
def test_queues_are_separated_by_commas(text, queues):
    assert split_queues(text) == queues


@pytest.mark.parametrize(
    ("status", "words"), [(0, "exit status 0"), (78, "exit status 78"), (-9, "SIGKILL"), (-63, "signal 63")]
)
def test_how_a_process_ended_is_said_in_words(status, words):
    assert describe(status) == words


def test_the_master_hears_that_a_process_works():
    receiver = Receiver()
    reporter = Reporter(receiver.other_end)
    receiver.read()
    assert not receiver.is_working

    os.write(receiver.other_end, b"work")
    receiver.read()
    assert not receiver.is_working
    os.write(receiver.other_end, b"ing\n")
    reporter.working()
    receiver.hand_over()
    receiver.read()
    assert (receiver.is_working, receiver.is_leaving, receiver.is_open) == (True, False, False)
    receiver.close()


def test_the_master_hears_that_a_process_leaves():
    receiver = Receiver()
    reporter = Reporter(receiver.other_end)
    reporter.working()
    reporter.leaving()
    receiver.read()

    assert (receiver.is_working, receiver.is_leaving) == (True, True)
    receiver.hand_over()
    receiver.close()


def test_a_process_without_a_master_goes_on():
    receiver = Receiver()
    receiver.close()

    Reporter(receiver.other_end).working()

    receiver.hand_over()


def test_signals_wait_until_somebody_asks():
    before = signal.getsignal(signal.SIGUSR1)
    with Signals(signal.SIGUSR1, signal.SIGUSR2) as signals:
        assert signals.wait(0) == []
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)

        assert set(signals.wait(5)) == {signal.SIGUSR1, signal.SIGUSR2}
        assert signals.wait(0) == []
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_readable_file_ends_the_wait():
    reader, writer = os.pipe()
    os.write(writer, b"x")
    with Signals(signal.SIGUSR1) as signals:
        assert signals.wait(60, [reader]) == []
    os.close(reader)
    os.close(writer)
