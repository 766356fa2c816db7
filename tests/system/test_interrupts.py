"""Signals during long work."""

import signal
import threading

import pytest

from dmzcli.system.interrupts import Interrupted, collected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_collected_and_handlers_are_given_back(number):
    before = signal.getsignal(number)
    with collected() as caught:
        signal.raise_signal(number)
        assert caught == [number]
    assert signal.getsignal(number) is before


def test_a_second_one_is_obeyed_at_once():
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a background job starts with it ignored
    with pytest.raises(KeyboardInterrupt), collected():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_handlers_are_given_back_after_an_exception():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), collected():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_handler_that_was_changed_inside_stays():
    before = signal.getsignal(signal.SIGTERM)
    with collected():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    signal.signal(signal.SIGTERM, before)


def test_other_threads_work_without_signals():
    seen = []

    def work():
        with collected() as caught:
            seen.append(caught)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [[]]


def test_an_interruption_tells_what_was_kept():
    error = Interrupted(signal.SIGTERM, "all is saved")
    assert str(error) == "SIGTERM: all is saved" and error.number == 15
