"""The first signal is a request, the second an order, and afterwards signals are as they were."""

import os
import signal

import pytest

from topofix.interruption import SIGNALS, Interruption


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_and_the_second_orders(number):
    said = []
    interruption = Interruption()
    with interruption.watched(lambda: said.append("stopping")):
        assert not interruption.requested
        os.kill(os.getpid(), number)
        assert (interruption.requested, said) == (True, ["stopping"])
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert said == ["stopping"]


def test_handlers_are_given_back():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    with Interruption().watched(lambda: None):
        assert signal.getsignal(signal.SIGINT) is not before[signal.SIGINT]
    assert {number: signal.getsignal(number) for number in SIGNALS} == before
