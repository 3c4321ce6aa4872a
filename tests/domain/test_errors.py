"""What an error of a forge carries."""

from interlock.errors import ForgeFault


def test_a_fault_of_a_forge_says_when_another_try_is_worth_it() -> None:
    assert ForgeFault("it is overloaded").retry_after is None
    waiting = ForgeFault("its limit is reached", 30.0)
    assert waiting.retry_after == 30.0
    assert str(waiting) == "its limit is reached"
